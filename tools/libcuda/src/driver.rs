//! The state of the driver, and the lock around it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::capture::Capture;
use crate::code::{Code, Result, fail};
use crate::context::{Context, Primary};
use crate::event::Event;
use crate::graph::{Executable, Graph};
use crate::memory::{Memory, Pool};
use crate::module::{Function, Link, Loaded};
use crate::queue::Queue;
use crate::report::Reports;
use crate::settings::Settings;
use crate::stream::Stream;

/// What the program holds instead of an object: a number that is never used twice.
pub type Handle = usize;

/// Handles start here, and differ by `STEP`: small numbers mean default streams.
const FIRST: Handle = 0x5eed_0000;
const STEP: Handle = 16;

/// Everything.
pub struct Driver {
    pub settings: Settings,
    pub reports: Reports,
    pub device: ptx::Device,
    pub memory: Memory,
    pub contexts: BTreeMap<Handle, Context>,
    pub primary: Primary,
    pub modules: BTreeMap<Handle, Loaded>,
    pub functions: BTreeMap<Handle, Function>,
    pub links: BTreeMap<Handle, Link>,
    pub streams: BTreeMap<Handle, Stream>,
    pub events: BTreeMap<Handle, Event>,
    pub pools: BTreeMap<Handle, Pool>,
    /// The pool that `cuMemAllocAsync` takes from; the other handle is the device's own.
    pub pool: Handle,
    pub default_pool: Handle,
    pub queue: Queue,
    pub captures: BTreeMap<u64, Capture>,
    pub graphs: BTreeMap<Handle, Graph>,
    pub executables: BTreeMap<Handle, Executable>,
    /// Times of launches of which a sample ran.
    pub sampled: HashMap<Vec<u8>, f64>,
    /// Simulated time at which the program stands, in nanoseconds.
    pub now: f64,
    next: Handle,
}

impl Driver {
    pub fn new(settings: Settings) -> std::result::Result<Driver, String> {
        let reports = Reports::open(&settings)?;
        let (primary, pool) = (FIRST, FIRST + STEP);
        Ok(Driver {
            reports,
            device: match settings.sample {
                Some(_) => ptx::Device::with_zeros(),
                None => ptx::Device::new(),
            },
            memory: Memory::default(),
            contexts: BTreeMap::new(),
            primary: Primary::new(primary),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            links: BTreeMap::new(),
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            pools: [(pool, Pool::default())].into(),
            pool,
            default_pool: pool,
            queue: Queue::default(),
            captures: BTreeMap::new(),
            graphs: BTreeMap::new(),
            executables: BTreeMap::new(),
            sampled: HashMap::new(),
            now: 0.0,
            next: FIRST + 2 * STEP,
            settings,
        })
    }

    pub fn new_handle(&mut self) -> Handle {
        self.next += STEP;
        self.next - STEP
    }

    /// True if an object once had this handle.
    pub fn was_handle(&self, handle: Handle) -> bool {
        (FIRST..self.next).contains(&handle) && (handle - FIRST).is_multiple_of(STEP)
    }
}

/// The state, once `cuInit` has been called.
static DRIVER: Mutex<Option<Box<Driver>>> = Mutex::new(None);
/// Told whenever a function of the program has returned.
static RETURNED: Condvar = Condvar::new();

thread_local! {
    /// Contexts of this thread, the current one last; 0 stands for none.
    pub static CONTEXTS: RefCell<Vec<Handle>> = const { RefCell::new(vec![]) };
    /// A function of the program runs on this thread, as work of a stream.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// The driver, locked. Functions of the program run while it is not.
pub struct Session(Option<MutexGuard<'static, Option<Box<Driver>>>>);

impl Deref for Session {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        let guard = self.0.as_ref().expect("a locked driver");
        guard.as_ref().expect("a driver that was initialised")
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Driver {
        let guard = self.0.as_mut().expect("a locked driver");
        guard.as_mut().expect("a driver that was initialised")
    }
}

fn lock() -> MutexGuard<'static, Option<Box<Driver>>> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    fn open() -> Result<Session> {
        let guard = lock();
        match &*guard {
            Some(_) => Ok(Session(Some(guard))),
            None => fail(Code::NOT_INITIALIZED, "cuInit has not been called"),
        }
    }

    /// Runs a function of the program.
    pub fn unlocked(&mut self, function: impl FnOnce()) {
        self.0 = None;
        IN_CALLBACK.set(true);
        function();
        IN_CALLBACK.set(false);
        self.0 = Some(lock());
        RETURNED.notify_all();
    }

    /// Waits until a function of the program has returned on another thread.
    pub fn wait(&mut self) {
        let guard = self.0.take().expect("a locked driver");
        let guard = RETURNED.wait(guard);
        self.0 = Some(guard.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Makes the driver, unless there is one.
pub fn initialise() -> Result<()> {
    let mut guard = lock();
    if guard.is_none() {
        let made = Settings::from_environment().and_then(Driver::new);
        match made {
            Ok(driver) => *guard = Some(Box::new(driver)),
            Err(why) => return fail(Code::INVALID_VALUE, why),
        }
    }
    Ok(())
}

/// Runs a call of the API that needs no driver. A panic becomes an error.
pub fn plain(name: &str, body: impl FnOnce() -> Result<()>) -> i32 {
    let caught = catch_unwind(AssertUnwindSafe(body));
    let result = caught.unwrap_or_else(|_| {
        fail(
            Code::UNKNOWN,
            "a mistake of this library, not of the program",
        )
    });
    match result {
        Ok(()) => Code::SUCCESS.0,
        Err(failure) => {
            if let Some(why) = &failure.why {
                match &mut *lock() {
                    Some(driver) => driver.reports.failure(name, failure.code, why),
                    None => eprintln!("cuda (interpreted): {name}: {why}"),
                }
            }
            failure.code.0
        }
    }
}

/// Runs a call of the API.
pub fn call(name: &str, body: impl FnOnce(&mut Session) -> Result<()>) -> i32 {
    plain(name, || {
        if IN_CALLBACK.get() {
            return fail(
                Code::NOT_PERMITTED,
                "called from a function that a stream runs",
            );
        }
        let mut session = Session::open()?;
        if session.settings.trace {
            eprintln!("cuda (interpreted): {name}");
        }
        body(&mut session)
    })
}

/// Runs what functions of this project's libraries may do while a stream runs them.
pub fn call_from_callback(name: &str, body: impl FnOnce(&mut Session) -> Result<()>) -> i32 {
    plain(name, || body(&mut Session::open()?))
}

/// Does something with the driver when the program ends, if there is one and no thread holds it.
pub fn at_exit(body: impl FnOnce(&mut Driver)) {
    if let Ok(mut guard) = DRIVER.try_lock()
        && let Some(driver) = &mut *guard
    {
        body(driver);
    }
}

//! Other programs, one at a time; Ctrl-C stops the one that runs.

use std::io::{ErrorKind, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a running child is asked whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// The child that runs, if any.
pub struct Children(Arc<Mutex<Option<Child>>>);

/// How a child ended.
pub enum Ended {
    /// Well: its standard output.
    Well(String),
    /// Badly: the last line it wrote to standard error, or else its exit status.
    Badly(String),
    /// There is no such program.
    Missing,
}

impl Children {
    /// From now on Ctrl-C stops the child that runs, then this program.
    pub fn new() -> Self {
        let running = Arc::new(Mutex::new(None));
        let stopped = running.clone();
        // without a handler Ctrl-C ends this program alone where the signal goes to it alone
        let _ = ctrlc::set_handler(move || {
            // the lock is kept, so that no other child starts
            let mut child: MutexGuard<Option<Child>> = lock(&stopped);
            if let Some(child) = child.as_mut() {
                let _ = child.kill();
                let _ = child.wait();
            }
            std::process::exit(crate::INTERRUPTED.into());
        });
        Children(running)
    }

    /// Runs `command` to its end.
    pub fn run(&self, command: &mut Command) -> Ended {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (stdout, stderr) = {
            let mut running = lock(&self.0);
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ended::Missing,
                Err(e) => return Ended::Badly(format!("cannot be started: {e}")),
            };
            let pipes = (collect(child.stdout.take()), collect(child.stderr.take()));
            *running = Some(child);
            pipes
        };
        let status = self.wait();
        let text = |pipe: JoinHandle<String>| pipe.join().unwrap_or_default();
        let (stdout, stderr) = (text(stdout), text(stderr));
        match status {
            Ok(status) if status.success() => Ended::Well(stdout),
            Ok(status) => {
                let last = stderr.lines().rfind(|l| !l.trim().is_empty());
                Ended::Badly(last.map_or(status.to_string(), |l| l.trim().to_string()))
            }
            Err(e) => Ended::Badly(format!("cannot be waited for: {e}")),
        }
    }

    fn wait(&self) -> std::io::Result<ExitStatus> {
        loop {
            let mut running = lock(&self.0);
            let child = running.as_mut().expect("put there by run");
            if let Some(status) = child.try_wait().transpose() {
                *running = None;
                return status;
            }
            drop(running);
            std::thread::sleep(PAUSE);
        }
    }
}

/// A panic while the lock is held leaves the child as it is.
fn lock(running: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that comes out of a pipe, read while the child runs so that it never waits for a reader.
fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut pipe) = pipe {
            // what was read before an error is still worth showing
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

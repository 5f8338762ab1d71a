//! Ctrl-C that lets the program finish what it is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first Ctrl-C; the second ends the program at once.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on, and says `message` when it hears.
    pub fn listen(message: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        // without a handler Ctrl-C ends the program at once, as everywhere; what was saved stays
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(crate::INTERRUPTED.into());
            }
            eprintln!("\n{message} (once more to stop at once)");
        });
        Interrupt(stop)
    }

    /// True once it was heard.
    pub fn heard(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

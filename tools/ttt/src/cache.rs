//! Where tokenised texts are cached.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/ttt/tokens`, `~/.cache/ttt/tokens`, or a folder for temporary files.
pub fn cache_dir() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir)
        .join("ttt")
        .join("tokens")
}

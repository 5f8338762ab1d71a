//! Books as ids.

use super::cache::{self, Ids};
use super::tokenizer::hex;
use super::{Error, Result, Tokenizer};
use flate2::read::MultiGzDecoder;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A book that unpacks to more bytes than this is refused.
const MOST_BYTES: u64 = 1 << 30;

/// One book. Clones share the ids.
#[derive(Clone, Debug)]
pub struct Book {
    /// The file's name without `.txt` or `.txt.gz`.
    pub name: String,
    /// Length of the text, bytes of UTF-8.
    pub bytes: u64,
    ids: Arc<Ids>,
}

impl Book {
    /// The ids of the whole book, in order; at least one.
    pub fn tokens(&self) -> &[u32] {
        self.ids.as_slice()
    }
}

/// Books, sorted by name. Clones share the ids.
#[derive(Clone, Debug)]
pub struct Corpus {
    books: Vec<Book>,
    warnings: Vec<String>,
}

impl Corpus {
    /// Reads the books at `paths`: each a text file (gzip where the name ends in `.gz`), or a
    /// folder of which the `.txt` and `.txt.gz` files are read, not those of folders inside it.
    ///
    /// The ids are kept in `cache_dir`, which is made if need be, in a file for each pair of text
    /// and tokenizer; a damaged one is made anew. Where the folder cannot be written, ids are held
    /// in memory and [`warnings`](Corpus::warnings) says so.
    ///
    /// Errors: no paths, a path that cannot be read, a folder without texts, and a book that is
    /// empty, not UTF-8, no sound gzip, above 1 GiB, or has bytes the vocabulary lacks.
    pub fn open(paths: &[PathBuf], tokenizer: &Tokenizer, cache_dir: &Path) -> Result<Corpus> {
        let files = book_files(paths)?;
        let mut corpus = Corpus {
            books: Vec::new(),
            warnings: Vec::new(),
        };
        let mut store = Some(cache_dir);
        for file in files {
            let text = read_text(&file)?;
            let ids = corpus
                .ids(&text, tokenizer, &mut store)
                .map_err(|e| Error::file(&file, e.to_string()))?;
            let (bytes, spelt) = (text.len() as u64, tokenizer.byte_len(ids.as_slice()));
            if ids.as_slice().is_empty() {
                return Err(Error::file(
                    &file,
                    "the tokenizer makes no tokens of this text; leave the file out",
                ));
            }
            if spelt != bytes {
                corpus.warnings.push(format!(
                    "{}: the tokens spell {spelt} bytes of a text of {bytes}, because the \
                     tokenizer rewrites text; bits per byte of parts of it are approximate",
                    file.display()
                ));
            }
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let name = name.strip_suffix(".gz").unwrap_or(&name);
            corpus.books.push(Book {
                name: name.strip_suffix(".txt").unwrap_or(name).to_string(),
                bytes,
                ids: Arc::new(ids),
            });
        }
        Ok(corpus)
    }

    /// The books, sorted by the names of their files.
    pub fn books(&self) -> &[Book] {
        &self.books
    }

    /// Number of tokens in all books.
    pub fn tokens(&self) -> u64 {
        let tokens = |book: &Book| book.tokens().len() as u64;
        self.books.iter().map(tokens).sum()
    }

    /// Bytes of UTF-8 text in all books.
    pub fn bytes(&self) -> u64 {
        self.books.iter().map(|book| book.bytes).sum()
    }

    /// What went wrong without spoiling the result, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The ids of `text`, from the cache folder if it has them. `store` becomes `None`, with one
    /// warning, once the folder turns out to be of no use.
    fn ids(&mut self, text: &str, tokenizer: &Tokenizer, store: &mut Option<&Path>) -> Result<Ids> {
        let Some(folder) = *store else {
            return Ok(Ids::Memory(tokenizer.encode(text)?));
        };
        let key = cache::key(text, tokenizer.fingerprint());
        let path = folder.join(format!("{}.ids", hex(&key[..16])));
        let bytes = text.len() as u64;
        match cache::open(&path, &key, bytes) {
            Ok(ids) => return Ok(ids),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                self.warnings.push(format!(
                    "{}: this token cache cannot be used ({error}); it is made anew",
                    path.display()
                ));
            }
            // Not there, or out of reach: then writing it fails as well, and says why.
            Err(_) => {}
        }
        let ids = tokenizer.encode(text)?;
        let written = fs::create_dir_all(folder)
            .and_then(|()| cache::write(&path, &key, bytes, &ids))
            .and_then(|()| cache::open(&path, &key, bytes));
        written.or_else(|error| {
            self.warnings.push(format!(
                "{}: tokens cannot be cached here ({error}), so they are held in memory and made \
                 anew each time; give a cache folder that can be written",
                folder.display()
            ));
            *store = None;
            Ok(Ids::Memory(ids))
        })
    }
}

/// The texts that [`Corpus::open`] would tokenise, in its order.
///
/// Errors: as there.
pub fn read_texts(paths: &[PathBuf]) -> Result<Vec<String>> {
    book_files(paths)?
        .iter()
        .map(|file| read_text(file))
        .collect()
}

fn book_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(texts_at(path)?);
    }
    if files.is_empty() {
        return Err(Error::Value(
            "no books are given; name a folder of .txt or .txt.gz files".into(),
        ));
    }
    files.sort_by(|a, b| (a.file_name(), a).cmp(&(b.file_name(), b)));
    Ok(files)
}

/// The file at `path`, or the texts of the folder at `path`.
fn texts_at(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |action, at: &Path| {
        let at = at.to_path_buf();
        move |e| Error::io(action, &at, e)
    };
    if !fs::metadata(path).map_err(failed("read", path))?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("list", path))? {
        let file = entry.map_err(failed("list", path))?.path();
        let name = file.file_name().and_then(OsStr::to_str).unwrap_or("");
        let is_text = name.ends_with(".txt") || name.ends_with(".txt.gz");
        if is_text && !name.starts_with('.') && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::file(
            path,
            "this folder has no .txt or .txt.gz files; put the books into it",
        ));
    }
    Ok(files)
}

/// The text of a book.
fn read_text(path: &Path) -> Result<String> {
    let file = fs::File::open(path).map_err(|e| Error::io("read", path, e))?;
    let mut bytes = Vec::new();
    if path.extension() == Some(OsStr::new("gz")) {
        let read = MultiGzDecoder::new(file)
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes);
        read.map_err(|e| {
            let message = format!("this is no sound gzip file ({e}); fetch or pack it anew");
            Error::file(path, message)
        })?;
    } else {
        let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("read", path, e))?;
    }
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::file(
            path,
            format!("this book is longer than {MOST_BYTES} bytes; split it into several files"),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let message = format!("byte {at} of the text is not UTF-8; convert the file to UTF-8");
        Error::file(path, message)
    })?;
    if text.trim().is_empty() {
        return Err(Error::file(
            path,
            "this book is empty; remove the file or put text into it",
        ));
    }
    Ok(text)
}

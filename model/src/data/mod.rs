//! Text into training windows: tokenizer, corpus of books, sampler.
//!
//! A [`Tokenizer`] turns text into ids, a [`Corpus`] holds the ids of whole books (cached on disk
//! and memory-mapped), and a [`Sampler`] cuts training windows out of them.

mod bpe;
mod cache;
mod corpus;
mod error;
mod sampler;
mod stream;
mod tokenizer;
mod write;

pub use corpus::{Book, Corpus, read_texts};
pub use error::{Error, Result};
pub use sampler::{Sampler, Window, eval_windows};
pub use stream::Stream;
pub use tokenizer::Tokenizer;
pub use write::write_atomic;

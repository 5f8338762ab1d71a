//! Sessions that are kept: saved, loaded, forked, rolled back, merged.

use std::path::Path;

use model::session::{Base, Memory, Options, Session, batch};
use model::{Config, Model, Result};
use ops::DType;

const B: usize = 4;
const V: u32 = 11;

/// A small model: `fast` of three blocks learn, in steps long enough that weights change their sign.
fn model(fast: usize, window: Option<usize>, seed: u64) -> Model {
    let config: Config = serde_json::from_value(serde_json::json!({
        "vocab_size": V, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": window,
        "ttt": {"mini_batch_size": B, "num_fast_layers": fast, "inner_learning_rate": 0.7, "inner_clip_norm": 0.5},
    }))
    .expect("a configuration");
    let mut model = Model::random(&config, seed, DType::F32).expect("a model");
    model.weights.embed.scale_assign(40.0).expect("floats");
    model
}

fn ids(from: u32, count: u32) -> Vec<u32> {
    (from..from + count).map(|i| (i * i + i / 3) % V).collect()
}

fn bits(x: &[f64]) -> Vec<u64> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Every number that a session can be asked for.
fn numbers(session: &mut Session) -> Result<Vec<u64>> {
    let mut all = bits(&session.logits()?);
    for fast in session.fast() {
        all.extend(fast.each().iter().flat_map(|w| bits(&w.to_f64s())));
    }
    Ok(all)
}

fn models() -> impl Iterator<Item = Model> {
    let windows = [Some(1), Some(3), Some(9), None];
    [0, 1, 2, 3]
        .into_iter()
        .flat_map(move |fast| windows.map(|window| model(fast, window, 3)))
}

#[test]
fn saved_loaded_and_continued_is_the_same_bit_for_bit() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("memory.safetensors");
    for model in models() {
        let base = Base::new(&model);
        for (learn, surprise) in [(true, None), (true, Some(0.5)), (false, None)] {
            let options = Options {
                learn,
                surprise,
                decay: Some(3.0),
                ..Options::default()
            };
            // nothing, less than a mini-batch, a whole one, more than the window, more than a buffer; logits asked for or not
            for count in [0, 1, 3, 4, 5, 22, 600] {
                for ask in [false, true] {
                    let mut session = Session::start(&base, options)?;
                    session.read(&ids(0, count))?;
                    if ask && count > 0 {
                        session.logits()?;
                    }
                    let mut memory = session.memory(DType::F32)?;
                    if count == 22 {
                        memory.save(&path)?;
                        memory = Memory::load(&path)?;
                    }
                    let mut loaded = Session::resume(&base, options, &memory)?;
                    assert_eq!(loaded.position(), session.position());
                    assert_eq!(loaded.steps(), session.steps());
                    for (from, count) in [(count, 2), (count + 2, 1), (count + 3, 30)] {
                        let more = ids(from, count);
                        let (a, b) = (session.read(&more)?, loaded.read(&more)?);
                        assert_eq!(bits(&a), bits(&b), "{count} tokens, {:?}", model.config);
                    }
                    assert_eq!(numbers(&mut session)?, numbers(&mut loaded)?);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_fork_goes_its_own_way_and_a_rollback_forgets() -> Result<()> {
    for model in models() {
        for count in [1, 6, 22] {
            let mut session = Session::new(&model, true)?;
            session.read(&ids(0, count))?;
            let mut fork = session.clone();
            let untouched = numbers(&mut session.clone())?;
            fork.read(&ids(5, 17))?;
            fork.logits()?;
            // what the fork did has not reached the session
            assert_eq!(numbers(&mut session.clone())?, untouched);
            let mut alone = Session::new(&model, true)?;
            alone.read(&ids(0, count))?;
            let (a, b) = (session.read(&ids(count, 13))?, alone.read(&ids(count, 13))?);
            assert_eq!(bits(&a), bits(&b));
            assert_eq!(numbers(&mut session)?, numbers(&mut alone)?);
        }
    }
    Ok(())
}

#[test]
fn in_bf16_a_memory_is_smaller_and_about_the_same() -> Result<()> {
    let base = Base::new(&model(2, Some(9), 3));
    let mut session = Session::start(&base, Options::default())?;
    session.read(&ids(0, 41))?;
    let (exact, small) = (session.memory(DType::F32)?, session.memory(DType::BF16)?);
    assert!(2 * small.bytes() <= exact.bytes());
    let mut loaded = Session::resume(&base, Options::default(), &small)?;
    let before = Session::start(&base, Options::default())?.fast();
    let [a, b, own] = [session.fast(), loaded.fast(), before].map(|fast| fast[1].up.to_f64s());
    for ((a, b), own) in a.into_iter().zip(b).zip(own) {
        // a difference keeps eight binary digits; adding it rounds
        let most = (a - own).abs() / 256.0 + 1e-7 * a.abs();
        assert!((a - b).abs() <= most, "{a} came back as {b}");
    }
    loaded.read(&ids(41, 9))?;
    Ok(())
}

#[test]
fn what_is_no_memory_of_this_model_is_refused() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("memory.safetensors");
    let base = Base::new(&model(2, Some(9), 3));
    let mut session = Session::start(&base, Options::default())?;
    session.read(&ids(0, 23))?;
    session.memory(DType::F32)?.save(&path)?;
    let refused = |error: model::Error, words: &[&str]| {
        let error = error.to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} in {error:?}");
        }
    };
    // other weights, and another configuration
    let mut other = model(2, Some(9), 3);
    other.config.rope_theta = 10_000.0;
    let others = [model(2, Some(9), 4), other];
    for other in &others {
        let resumed = Session::resume(&Base::new(other), Options::default(), &Memory::load(&path)?);
        refused(
            resumed.err().expect("refused"),
            &["another model", "belongs to"],
        );
    }
    // cut anywhere, missing, empty, a model
    let whole = std::fs::read(&path).expect("read");
    let cut = folder.path().join("cut.safetensors");
    for length in [0, 7, 8, 200, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&cut, &whole[..length]).expect("written");
        refused(
            Memory::load(&cut).unwrap_err(),
            &["cut.safetensors", "truncated"],
        );
    }
    let missing = Memory::load(Path::new("nowhere.safetensors"));
    refused(
        missing.unwrap_err(),
        &["nowhere.safetensors", "cannot be read"],
    );
    model(2, Some(9), 3).save(folder.path())?;
    let foreign = Memory::load(&folder.path().join("model.safetensors"));
    refused(
        foreign.unwrap_err(),
        &["model.safetensors", "no memory of a session"],
    );
    // a header that was tampered with
    let text = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{from} is in the header"));
        let mut changed = whole.clone();
        changed[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&cut, changed).expect("written");
        let memory = Memory::load(&cut)?;
        Session::resume(&base, Options::default(), &memory)
    };
    let [.., target, last] = ids(0, 23)[..] else {
        unreachable!("there are 23");
    };
    let targets = format!("targets\\\":[{target},{last}]");
    let one = format!("targets\\\":[{target}");
    let one = format!("{one}{}]", " ".repeat(targets.len() - one.len() - 1));
    let last = format!("last\\\":{last}");
    for (from, to, word) in [
        ("inputs\\\":22", "inputs\\\":2x", "header"),
        ("inputs\\\":22", "inputs\\\": 7", "damaged"),
        ("steps\\\":5", "stops\\\":5", "steps"),
        (&last, &last.replace("last", "lost"), "damaged"),
        (&targets, &one, "damaged"),
    ] {
        refused(text(from, to).err().expect("refused"), &[word]);
    }
    Ok(())
}

#[test]
fn merged_memories_add_up() -> Result<()> {
    let base = Base::new(&model(2, Some(9), 3));
    let read = |from| {
        let mut session = Session::start(&base, Options::default())?;
        session.read(&ids(from, 22))?;
        session.memory(DType::F32)
    };
    let (a, b) = (read(0)?, read(7)?);
    let same = Memory::merge(&[(&a, 0.5), (&a, 0.5)])?;
    let both = Memory::merge(&[(&a, 0.25), (&b, 2.0)])?;
    for (name, sum) in both.differences() {
        let of = |memory: &Memory| {
            let mut all = memory.differences().filter(|d| d.0 == name);
            all.next().expect("there").1.to_f64s()
        };
        let parts = of(&a).into_iter().zip(of(&b));
        for (sum, (a, b)) in sum.to_f64s().into_iter().zip(parts) {
            assert!((sum - (0.25 * a + 2.0 * b)).abs() < 1e-6);
        }
        for (x, y) in of(&a).into_iter().zip(of(&same)) {
            assert!((x - y).abs() < 1e-6);
        }
    }
    // it goes on where the first stopped
    let merged = Session::resume(&base, Options::default(), &both)?;
    assert_eq!(merged.position(), 22);
    let other = Session::start(&Base::new(&model(2, Some(9), 4)), Options::default())?;
    let error = Memory::merge(&[(&a, 1.0), (&other.memory(DType::F32)?, 1.0)]).unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
    assert!(Memory::merge(&[]).is_err());
    Ok(())
}

#[test]
fn sessions_of_a_batch_are_what_they_are_alone() -> Result<()> {
    for model in models() {
        let base = Base::new(&model);
        // at different places of their text, and with different options
        let counts = [1, 2, 3, 4, 7, 22, 300];
        let start = |i: usize| {
            let options = Options {
                learn: i != 4,
                ..Options::default()
            };
            Session::start(&base, options)
        };
        let mut together: Vec<Session> = (0..counts.len()).map(start).collect::<Result<_>>()?;
        let texts: Vec<Vec<u32>> = counts.iter().map(|&n| ids(n, n)).collect();
        let read: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let losses = batch::read(&mut together, &read)?;
        let mut alone: Vec<Session> = (0..counts.len()).map(start).collect::<Result<_>>()?;
        for ((session, text), losses) in alone.iter_mut().zip(&texts).zip(losses) {
            assert_eq!(bits(&session.read(text)?), bits(&losses));
        }
        for step in 0..11 {
            let logits = batch::logits(&mut together)?;
            let next: Vec<[u32; 1]> = (0..counts.len())
                .map(|i| ids(i as u32 + step, 1)[0])
                .map(|id| [id])
                .collect();
            let next: Vec<&[u32]> = next.iter().map(|id| &id[..]).collect();
            let losses = batch::read(&mut together, &next)?;
            for (i, session) in alone.iter_mut().enumerate() {
                let own = session.logits()?;
                let loss = session.read(next[i])?;
                let numbers = own
                    .iter()
                    .chain(&loss)
                    .zip(logits[i].iter().chain(&losses[i]));
                for (a, b) in numbers {
                    // roundings of f32, and what a few inner steps make of them
                    assert!((a - b).abs() < 1e-3, "{a} alone, {b} together, step {step}");
                }
            }
        }
    }
    // none; one that has read nothing; two bases; too few that choose
    let (a, b) = (model(1, Some(3), 1), model(1, Some(3), 1));
    assert!(batch::logits(&mut [])?.is_empty());
    let mut sessions = vec![Session::new(&a, true)?, Session::new(&b, true)?];
    assert!(batch::read(&mut sessions, &[]).is_err());
    let error = batch::logits(&mut sessions[..1]).unwrap_err().to_string();
    assert!(error.contains("read something first"), "{error}");
    batch::read(&mut sessions, &[&[1], &[2]])?;
    let error = batch::logits(&mut sessions).unwrap_err().to_string();
    assert!(error.contains("another base"), "{error}");
    assert!(batch::write(&mut sessions, &mut [|_: &[f64]| Ok(1)], 1).is_err());
    Ok(())
}

#[test]
fn sessions_that_write_together_write_what_they_write_alone() -> Result<()> {
    const COUNT: usize = 40;
    for model in models() {
        let base = Base::new(&model);
        let start = |i| -> Result<Session> {
            let mut session = Session::start(&base, Options::default())?;
            session.read(&ids(i, 1 + i))?;
            Ok(session)
        };
        let mut together: Vec<Session> = (0..COUNT as u32).map(start).collect::<Result<_>>()?;
        let mut alone = together.clone();
        // what each is to write, and the logits it chooses with
        let text = |i: usize| ids(3 * i as u32, 2 * B as u32 + 3);
        let mut seen = vec![vec![]; COUNT];
        let mut choose: Vec<_> = (seen.iter_mut().enumerate())
            .map(|(i, seen)| {
                move |logits: &[f64]| {
                    seen.push(logits.to_vec());
                    Ok(text(i)[seen.len() - 1])
                }
            })
            .collect();
        let written = batch::write(&mut together, &mut choose, 2 * B + 3)?;
        drop(choose);
        for (i, session) in alone.iter_mut().enumerate() {
            assert_eq!(written[i], text(i));
            for (logits, id) in seen[i].iter().zip(text(i)) {
                for (a, b) in session.logits()?.iter().zip(logits) {
                    // roundings of f32, and what a few inner steps make of them
                    assert!((a - b).abs() < 1e-3, "{a} alone, {b} together");
                }
                session.read(&[id])?;
            }
            assert_eq!(together[i].position(), session.position());
            assert_eq!(together[i].steps(), session.steps());
        }
    }
    Ok(())
}

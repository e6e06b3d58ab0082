//! Every target over its seeds, without a fuzzer: what CI runs where `cargo fuzz` cannot be had.

use std::path::Path;

use evergate_fuzz::TARGETS;

#[test]
fn every_target_keeps_its_promises_over_its_seeds_and_over_what_they_become_when_cut() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let seeds: Vec<_> =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            let path = seed.expect("a file").path();
            println!("{}", path.display());
            let data = std::fs::read(&path).expect("a seed");
            run(&data);
            for at in 0..data.len() {
                run(&data[..at]);
                let mut damaged = data.clone();
                damaged[at] ^= 1 << (at % 8);
                run(&damaged);
                damaged.remove(at);
                run(&damaged);
            }
        }
    }
}

//! A configuration file of the fuzzer's, read as an operator's is: from a path.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use evergate::config::{Errors, Host, Inputs, Loaded, Purpose, Value, effective, find, load};

/// In memory, where there is such a place; one a process, for libFuzzer may run several.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let within = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    within.join(format!("evergate-fuzz-{}", std::process::id()))
});

/// Writes `text` where only this process and thread look for it.
fn write(name: &str, text: &[u8]) -> PathBuf {
    let path = FOLDER.with_extension(format!("{:?}.{name}", std::thread::current().id()));
    std::fs::write(&path, text).expect("a file of the fuzzer's");
    path
}

/// The configuration of an `opensrf_core.xml`.
pub fn opensrf_core(text: &[u8]) -> Result<Loaded, Errors> {
    let path = write("xml", text);
    let mut inputs = Inputs::none(Purpose::Config);
    inputs.env.insert("EVERGATE_OPENSRF_CORE".to_owned(), path.display().to_string());
    let loaded = load(inputs);
    let _ = std::fs::remove_file(path);
    checked(loaded, text)
}

/// The configuration of a TOML file.
pub fn toml(text: &[u8]) -> Result<Loaded, Errors> {
    let path = write("toml", text);
    let mut inputs = Inputs::none(Purpose::Config);
    // A file may name as many cores as it likes.
    inputs.host = Host::of(0..64, 1 << 20);
    inputs.toml = Some((path.clone(), "flag --config".to_owned()));
    let loaded = load(inputs);
    let _ = std::fs::remove_file(path);
    checked(loaded, text)
}

/// What holds of any configuration: errors say something in one line each, and what is printed is TOML in which no password stands.
fn checked(loaded: Result<Loaded, Errors>, text: &[u8]) -> Result<Loaded, Errors> {
    match &loaded {
        Err(errors) => {
            let mut count = 0;
            for error in errors.iter() {
                assert!(!error.to_string().trim().is_empty());
                count += 1;
            }
            assert!(count > 0, "refused without a reason");
        }
        Ok(loaded) => {
            let printed = effective(loaded);
            let table = printed.parse::<::toml::Table>().unwrap_or_else(|why| panic!("{why}:\n{printed}"));
            for setting in loaded.values.iter() {
                assert!(find(setting.name).is_some());
                let is_listed = table.contains_key(setting.name);
                assert!(
                    is_listed
                        || matches!(&setting.value, Value::Text(text) if text.is_empty())
                        || printed.contains(setting.name),
                    "{}",
                    setting.name
                );
            }
            let passwd = loaded.config.passwd.expose();
            let stands = |text: &str| text.matches(passwd).count();
            if passwd.len() >= 8 && stands(&String::from_utf8_lossy(text)) == 1 {
                assert_eq!(stands(&printed), 0, "a password is printed");
                assert_eq!(stands(&format!("{:?}", loaded.config)), 0, "a password is shown");
            }
        }
    }
    loaded
}

//! The addresses that this process has on the bus, written down so that a successor can delete their queues.
//!
//! A process that dies leaves lists in Redis that nobody reads and, under the stock ACL, nobody can find. Each process
//! keeps `PID-START.addresses` in the state directory, a line `domain TAB key` for each address, under a flock that
//! ends with the process, however it ends: a file whose lock can be taken belongs to nobody alive. What a file names is no list
//! of what may be dialled. May never: delete anything but `opensrf:client:` keys, touch a living process's file, use what
//! others may have written (`state_dir`), or run on a core's thread (it writes and waits).

#![forbid(unsafe_code)]

mod state_dir;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::{Value, cmd};
use state_dir::StateDir;

use super::resolver;
use crate::bus::blocking::{Failure, Link, Patience};
use crate::bus::tls::Tls;
use crate::config::RedisPlace;

/// The end of a file's name.
const SUFFIX: &str = ".addresses";

/// Names tried for our own file: one is enough unless a file of an earlier boot has the same process id and start time.
const NAMES_MAX: u32 = 16;

/// The part of an orphan that is read, bytes: some ten thousand addresses.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What every key begins with that may be deleted.
const KEY_PREFIX: &str = "opensrf:client:";

/// Keys in one DEL.
const KEYS_PER_DEL: usize = 128;

/// How long a Redis is waited for, beside the resolution of its name.
const PATIENCE: Patience = Patience {
    connect_max: Duration::from_secs(5),
    answer_max: Duration::from_secs(5),
    whole_max: Duration::from_secs(15),
};

/// Our own file, locked for as long as this lives. It is left behind by whoever could not delete its queues.
#[derive(Debug)]
pub struct AddressFile {
    /// Holds the lock.
    file: File,
    dir: StateDir,
    name: String,
    path: PathBuf,
}

impl AddressFile {
    /// Makes our own file in `dir`, locked; makes the directory where it is absent.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let dir = StateDir::open(dir)?;
        let start = process_start(&fs::read_to_string("/proc/self/stat")?)
            .ok_or_else(|| io::Error::other("field 22 of /proc/self/stat cannot be read"))?;
        let name = format!("{}-{start}", std::process::id());
        for n in 0..NAMES_MAX {
            let again = if n == 0 { String::new() } else { format!("-{n}") };
            let (unnamed, name) = (format!(".{name}{again}.new"), format!("{name}{again}{SUFFIX}"));
            // It gets its name when it is locked: whoever finds it finds it ours.
            let made = dir.create(&unnamed).and_then(|file| {
                let named = lock(&dir, &unnamed, &file).and_then(|_| dir.link(&unnamed, &name));
                dir.remove(&unnamed)?;
                named.map(|()| file)
            });
            match made {
                Ok(file) => return Ok(Self { file, path: dir.path(&name), dir, name }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("none of {NAMES_MAX} names for {name}{SUFFIX} was free")))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that [`orphans`] should look into.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Records that `key` is ours on the Redis of `domain`. Call it before Redis hears of the key.
    pub fn record(&mut self, domain: &str, key: &str) -> io::Result<()> {
        if !key.starts_with(KEY_PREFIX) || [domain, key].iter().any(|text| text.contains(char::is_control)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a domain and a client address"));
        }
        // One write: a crash leaves whole lines, or one without its end, which is not read.
        self.file.write_all(format!("{domain}\t{key}\n").as_bytes())
    }

    /// Deletes the file, once the queues that it names are deleted: the end of a process that ends well.
    pub fn remove(self) -> io::Result<()> {
        self.dir.remove(&self.name)
    }
}

/// One address of a process that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The domain whose Redis holds it.
    pub domain: String,
    /// The list's key.
    pub key: String,
}

/// The file of a process that is gone. It is locked while this lives, so that no other process works on it; dropped,
/// it is there for the next. A worker that was busy when its client vanished pushes its reply later, and that makes
/// the list anew: so delete the queues, keep the orphan for `request_max_seconds`, delete them again, then
/// [`Orphan::remove`].
#[derive(Debug)]
pub struct Orphan {
    /// Holds the lock.
    _file: File,
    dir: Arc<StateDir>,
    name: String,
    path: PathBuf,
    addresses: Vec<Address>,
}

impl Orphan {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every address that it names.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The keys, by the domain whose Redis holds them: what [`delete_queues`] takes.
    pub fn keys_by_domain(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for address in &self.addresses {
            keys.entry(&address.domain).or_default().push(&address.key);
        }
        keys
    }

    /// Deletes the file: its queues were deleted twice.
    pub fn remove(self) -> io::Result<()> {
        // Under the lock: nobody else has the right to this name.
        self.dir.remove(&self.name)
    }
}

/// The files in `dir` whose process is gone, each locked. Files without an address are removed on the way; what
/// cannot be read, or may be others' work, is logged and left.
pub fn orphans(dir: &Path) -> Vec<Orphan> {
    let listed = StateDir::open(dir).and_then(|dir| Ok((dir.list(SUFFIX)?, Arc::new(dir))));
    let (names, dir) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!("the address files in {} cannot be listed: {error}", dir.display());
            return Vec::new();
        }
    };
    let mut orphans = Vec::new();
    for name in names {
        match adopt(&dir, &name) {
            Ok(Some(orphan)) => orphans.push(orphan),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("an address file cannot be taken over: {error}; the lists that it names stay in Redis");
            }
        }
    }
    orphans
}

/// The file of that name, if its process is gone and it names an address.
fn adopt(dir: &Arc<StateDir>, name: &str) -> io::Result<Option<Orphan>> {
    let mut file = match dir.open_file(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !lock(dir, name, &file)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let addresses = addresses(&String::from_utf8_lossy(&bytes));
    let orphan = Orphan { _file: file, path: dir.path(name), dir: Arc::clone(dir), name: name.to_owned(), addresses };
    if orphan.addresses.is_empty() {
        orphan.remove()?;
        return Ok(None);
    }
    Ok(Some(orphan))
}

/// Locks `file` without waiting and says whether it is ours now, and still what `name` names: between the opening and
/// the locking another process may have held the lock and removed the file.
fn lock(dir: &StateDir, name: &str, file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => dir.names(name, file),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// The addresses in a file's text; a line that says something else, or has no end, is nobody's.
fn addresses(text: &str) -> Vec<Address> {
    text.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n')?.split_once('\t'))
        .filter(|(domain, key)| !domain.is_empty() && key.starts_with(KEY_PREFIX))
        .map(|(domain, key)| Address { domain: domain.to_owned(), key: key.to_owned() })
        .collect()
}

/// Clock ticks from the host's boot to the process's start: field 22 of /proc/PID/stat (`proc_pid_stat(5)`). The second
/// field is the command's name in parentheses, and may hold spaces and parentheses.
fn process_start(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// Deletes `keys` on the Redis that is `named` and says how many of them were there. Blocks for 15 s at most,
/// beside resolving its name. An error names the place and the reason, never the password.
pub fn delete_queues(
    named: &RedisPlace,
    tls: Option<&Tls>,
    (username, passwd): (&str, &str),
    keys: &[&str],
) -> Result<u64, Failure> {
    if keys.is_empty() {
        return Ok(0);
    }
    let attempt = || {
        let places = resolver::resolve(named).map_err(|why| Failure::Broken(why.to_string()))?;
        let mut link = Link::connect(named, &places, tls, PATIENCE).map_err(Failure::Broken)?;
        link.ask(cmd("AUTH").arg(username).arg(passwd))?;
        let mut deleted = 0;
        for keys in keys.chunks(KEYS_PER_DEL) {
            match link.ask(cmd("DEL").arg(keys))? {
                Value::Int(count) => deleted += u64::try_from(count).unwrap_or(0),
                other => return Err(Failure::Refused(format!("DEL was answered with {other:?}"))),
            }
        }
        Ok(deleted)
    };
    let told = |why| format!("the queues on {named} were not deleted: {why}");
    attempt().map_err(|failure| match failure {
        Failure::Refused(why) => Failure::Refused(told(why)),
        Failure::Broken(why) => Failure::Broken(told(why)),
    })
}

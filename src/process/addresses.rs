//! The bus addresses of this process, and the lists that processes before it left behind.

use std::collections::BTreeSet;
use std::time::Duration;
use std::{io, thread};

use evergate_proto::opensrf::address;

use crate::bounded::{self, FILE_MAX};
use crate::bus::blocking::Failure;
use crate::bus::tls::Tls;
use crate::config::Config;
use crate::process::address_file::{self, AddressFile, Orphan};
use crate::random;

/// Makes the bus address of each of `cores`: 128 random bits, since a reply must never reach another process.
pub fn make(config: &Config, cores: usize) -> Result<Vec<String>, String> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let host = host.as_deref().unwrap_or("localhost");
    (0..cores)
        .map(|_| {
            let bits = random::bits()?;
            Ok(address::client_address(&config.username, &config.domain, host, std::process::id(), bits))
        })
        .collect()
}

/// Records the addresses, so that a later start can delete their lists if this process does not. Where that cannot be
/// done, it is off, with a warning.
pub fn record(config: &Config, addresses: &[String]) -> Option<AddressFile> {
    let directory = config.state_dir.clone()?;
    let (dir, domain, addresses) = (directory.clone(), config.domain.clone(), addresses.to_vec());
    let create = move || {
        let mut file = AddressFile::create(&dir)?;
        addresses.iter().try_for_each(|address| file.record(&domain, address))?;
        Ok(file)
    };
    // A file that comes too late goes again: without its lock the lists that it names would look like a dead process's.
    let undo = |recorded: io::Result<AddressFile>| drop(recorded.map(AddressFile::remove));
    let recorded = bounded::within_or(FILE_MAX, create, undo);
    match recorded.unwrap_or_else(|failed| Err(failed.into())) {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::warn!(
                "state_dir {} cannot be used: {error}; should this process crash, its lists stay in Redis",
                directory.display()
            );
            None
        }
    }
}

/// Deletes the lists that dead processes left, now and again when no reply can come any more, on a thread of its own.
pub fn clean_up(config: &Config, tls: Option<Tls>, file: &AddressFile) -> io::Result<()> {
    let (dir, config) = (file.dir().to_owned(), config.clone());
    bounded::spawn("clean-up", move || {
        let orphans = address_file::orphans(&dir);
        if orphans.is_empty() {
            return;
        }
        // The password of the account goes to whatever is dialled, so that a file cannot say what is.
        for orphan in &orphans {
            for domain in foreign(&config, orphan) {
                tracing::warn!(
                    "bus: {} names lists on {domain:?}, which is not dialled, since neither opensrf_core.xml nor bus_domains \
                     lists it; list it in bus_domains, or delete the file",
                    orphan.path().display()
                );
            }
        }
        delete(&config, tls.as_ref(), &orphans);
        thread::sleep(Duration::from_secs(config.request_max_seconds));
        if delete(&config, tls.as_ref(), &orphans) {
            for orphan in orphans.into_iter().filter(|orphan| foreign(&config, orphan).is_empty()) {
                if let Err(error) = orphan.remove() {
                    tracing::warn!("an address file cannot be removed: {error}");
                }
            }
        }
    })
}

/// The domains that an orphan names and the configuration does not.
fn foreign(config: &Config, orphan: &Orphan) -> Vec<String> {
    orphan.keys_by_domain().into_keys().filter(|domain| !is_configured(config, domain)).map(str::to_owned).collect()
}

fn is_configured(config: &Config, domain: &str) -> bool {
    config.domains.iter().any(|configured| configured == domain)
}

fn delete(config: &Config, tls: Option<&Tls>, orphans: &[Orphan]) -> bool {
    let mut all = true;
    // Who keeps one orphan waiting keeps all: the next round asks again.
    let mut broken = BTreeSet::new();
    for orphan in orphans {
        let keys_by_domain = orphan.keys_by_domain();
        for (domain, keys) in keys_by_domain.into_iter().filter(|(domain, _)| is_configured(config, domain)) {
            if broken.contains(domain) {
                continue;
            }
            let account = (config.username.as_str(), config.passwd.expose());
            match address_file::delete_queues(&config.redis_of(domain), tls, account, &keys) {
                Ok(deleted) => {
                    tracing::info!("bus: {deleted} lists deleted that {} left on {domain}", orphan.path().display());
                }
                Err(failure) => {
                    all = false;
                    tracing::warn!("bus: lists left on {domain} could not be deleted: {failure}");
                    if matches!(failure, Failure::Broken(_)) {
                        broken.insert(domain);
                    }
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::config::{Inputs, Purpose, load};

    #[test]
    fn a_redis_that_gives_no_answer_is_asked_once_a_round_however_many_files_name_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let config = Config {
            domain: "a".into(),
            domains: vec!["a".into()],
            bus_domain_address: BTreeMap::from([("a".to_owned(), address.to_string())]),
            ..load(Inputs::none(Purpose::Demo)).expect("the defaults").config
        };
        let dir = std::env::temp_dir().join(format!("evergate-clean-up-{}", std::process::id()));
        let files = [0, 1, 2].map(|n| {
            let mut file = AddressFile::create(&dir).expect("a file");
            file.record("a", &format!("opensrf:client:gateway:a:host:1:{n}")).expect("recorded");
            file
        });
        drop(files);
        let orphans = address_file::orphans(&dir);
        let asked = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&asked);
        // Each is hung up on once it is counted.
        thread::spawn(move || {
            for _stream in listener.incoming() {
                counts.fetch_add(1, SeqCst);
            }
        });
        let all = delete(&config, None, &orphans);
        fs::remove_dir_all(&dir).expect("removed");
        assert_eq!((orphans.len(), all, asked.load(SeqCst)), (3, false, 1));
    }
}

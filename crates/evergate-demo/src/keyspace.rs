//! The lists, and the readers that wait for them. No I/O.

use std::collections::{HashMap, VecDeque};

use futures_channel::oneshot;

/// A list's name.
type Key = Vec<u8>;
/// One element of a list.
type Element = Vec<u8>;

/// Every list of the server and every reader blocked on one.
#[derive(Debug, Default)]
pub(super) struct Keyspace {
    /// A list that has lost its last element is no longer here.
    lists: HashMap<Key, VecDeque<Element>>,
    /// Readers waiting for a list, the longest waiting first.
    queues: HashMap<Key, VecDeque<u64>>,
    /// What each waiting reader waits for, by its number.
    readers: HashMap<u64, Reader>,
    /// The number of the next reader.
    reader_next: u64,
}

#[derive(Debug)]
struct Reader {
    /// Lists it waits for.
    keys: Vec<Key>,
    /// The element it was given and has not fetched: it stays here, not in a channel, so that a reader that goes away
    /// gives it back.
    given: Option<(Key, Element)>,
    /// Tells the connection that `given` is there, once.
    tell: Option<oneshot::Sender<()>>,
}

impl Keyspace {
    /// RPUSH: appends, serves waiting readers, and returns the length that the list had in between, as Redis does.
    pub(super) fn push(&mut self, key: &[u8], elements: impl IntoIterator<Item = Element>) -> usize {
        let list = self.lists.entry(key.to_vec()).or_default();
        list.extend(elements);
        let length = list.len();
        self.serve(key);
        length
    }

    /// LPOP with a count: up to `count` elements; `None` if there is no such list.
    pub(super) fn pop(&mut self, key: &[u8], count: usize) -> Option<Vec<Element>> {
        let list = self.lists.get_mut(key)?;
        let elements = list.drain(..count.min(list.len())).collect();
        if list.is_empty() {
            self.lists.remove(key);
        }
        Some(elements)
    }

    /// DEL: whether there was such a list.
    pub(super) fn delete(&mut self, key: &[u8]) -> bool {
        self.lists.remove(key).is_some()
    }

    /// LLEN.
    pub(super) fn length(&self, key: &[u8]) -> usize {
        self.lists.get(key).map_or(0, VecDeque::len)
    }

    /// BLPOP's first look: the first element of the first of `keys` that has one.
    pub(super) fn pop_first(&mut self, keys: &[Key]) -> Option<(Key, Element)> {
        keys.iter().find_map(|key| {
            let element = self.pop(key, 1)?.pop()?;
            Some((key.clone(), element))
        })
    }

    /// Adds a reader to the end of each list's queue, and says how it hears that it was given something. It must be
    /// ended with [`Self::unblock`].
    pub(super) fn block(&mut self, keys: Vec<Key>) -> (u64, oneshot::Receiver<()>) {
        let reader = self.reader_next;
        self.reader_next += 1;
        for key in &keys {
            self.queues.entry(key.clone()).or_default().push_back(reader);
        }
        let (tell, told) = oneshot::channel();
        self.readers.insert(reader, Reader { keys, given: None, tell: Some(tell) });
        (reader, told)
    }

    /// Fetches what the reader was given.
    pub(super) fn take(&mut self, reader: u64) -> Option<(Key, Element)> {
        self.readers.get_mut(&reader)?.given.take()
    }

    /// Ends a wait. An element that the reader was given and never fetched goes back to the head of its list.
    pub(super) fn unblock(&mut self, reader: u64) {
        let Some(Reader { keys, given, .. }) = self.readers.remove(&reader) else { return };
        self.leave(reader, &keys);
        if let Some((key, element)) = given {
            self.lists.entry(key.clone()).or_default().push_front(element);
            self.serve(&key);
        }
    }

    fn leave(&mut self, reader: u64, keys: &[Key]) {
        for key in keys {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.retain(|&other| other != reader);
                if queue.is_empty() {
                    self.queues.remove(key);
                }
            }
        }
    }

    /// Gives elements of one list to the readers that have waited longest, one each.
    fn serve(&mut self, key: &[u8]) {
        while let Some(&reader) = self.queues.get(key).and_then(VecDeque::front) {
            let Some(element) = self.pop(key, 1).and_then(|mut elements| elements.pop()) else { return };
            let mut keys = Vec::new();
            if let Some(waiting) = self.readers.get_mut(&reader) {
                waiting.given = Some((key.to_vec(), element));
                if let Some(tell) = waiting.tell.take() {
                    // Nobody listens any more: the reader is about to give the element back.
                    let _ = tell.send(());
                }
                keys.clone_from(&waiting.keys);
            }
            self.leave(reader, &keys);
        }
    }
}

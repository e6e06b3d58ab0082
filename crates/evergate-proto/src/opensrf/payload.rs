//! Reading a REQUEST's payload: which method it calls, and with what.

use std::borrow::Cow;

use super::read::Draft;
use crate::json::scan::{Broken, Scalar};
use crate::json::strictness::Strictness;

/// Bytes of a method's name that are read at most where it has escapes in it: more than any log shows.
const METHOD_BYTES_READ: usize = 8 * 1024;

/// What a REQUEST's payload said.
#[derive(Default)]
pub(super) struct Payload<'a> {
    pub(super) method: Option<Cow<'a, str>>,
    pub(super) params: Option<&'a [u8]>,
}

impl<'a, R: Strictness> Draft<'a, R> {
    /// A payload is `{"__c":"osrfMethod","__p":{…}}`. C services also take the method without the class around it, so
    /// that is read as well: what they would carry out must be logged and redacted by its real name.
    pub(super) fn read_payload(&mut self) -> Result<Payload<'a>, Broken> {
        let mut bare = Payload::default();
        let mut wrapped = None;
        self.members("a payload", |draft, name| {
            if name == b"__p" && draft.cursor.peek() == Some(b'{') {
                wrapped = Some(draft.read_method()?);
                Ok(())
            } else {
                draft.read_method_member(name, &mut bare)
            }
        })?;
        match wrapped {
            Some(wrapped) => {
                if wrapped.method.is_some() && bare.method.is_some() {
                    self.fault("a payload names two methods; leave out the one outside its __p");
                }
                Ok(wrapped)
            }
            None => Ok(bare),
        }
    }

    fn read_method(&mut self) -> Result<Payload<'a>, Broken> {
        let mut payload = Payload::default();
        self.members("a payload's __p", |draft, name| draft.read_method_member(name, &mut payload))?;
        Ok(payload)
    }

    fn read_method_member(&mut self, key: &[u8], payload: &mut Payload<'a>) -> Result<(), Broken> {
        match key {
            b"method" => {
                if let Scalar::Text(text) = self.cursor.scalar()? {
                    payload.method = text.beginning(METHOD_BYTES_READ);
                }
            }
            b"params" => payload.params = Some(&self.text[self.cursor.skip()?]),
            _ => self.skip()?,
        }
        Ok(())
    }
}

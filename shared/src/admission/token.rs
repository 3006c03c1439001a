//! An admission as a JSON Web Token, signed with HMAC-SHA256 by a key that the waiting room and the reservation API share. Two
//! keys are known at once, so that one can be replaced while tokens of the other are out: the first signs, and both are
//! believed.
//!
//! A token has one algorithm, whatever its header says, and names its key. It is worth nothing without its customer's login.
//! What else the waiting room signs by the same keys is for another audience, so that neither is taken for the other.

use std::fmt;

use data_encoding::HEXLOWER;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{Admission, Denied};
use crate::{
    config::{Reader, Secret},
    field,
};

/// The secret's field with the key that signs.
pub const KEY_FIELD: &str = "admission_key";

/// The secret's field with the other key that is believed.
pub const OTHER_KEY_FIELD: &str = "admission_key_former";

/// For whom tokens are.
const AUDIENCE: &str = "holdfast-reservations";

/// A shorter key is weaker than the hash (RFC 7518, 3.2).
const SHORTEST_KEY: usize = 32;

/// The longest token that is looked at. One of ours has some 400 bytes beside the ids of customer and show.
const LONGEST_TOKEN: usize = 4_096;

/// The longest name of a token: that of its reservation is a little longer, and must fit as an id.
const LONGEST_TOKEN_ID: usize = 128;

/// The part of a key's digest that names it.
const LENGTH_OF_NAME: usize = 16;

/// An admission that no token can state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no token can be made of the place {token_id}: {cause}")]
pub struct Unmintable {
    /// What the token would be called.
    pub token_id: String,
    /// What is wrong.
    pub cause: String,
}

/// The keys of admission tokens.
#[derive(Clone)]
pub struct Keys {
    signing: Key,
    other: Option<Key>,
}

/// They never show.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [Some(&self.signing), self.other.as_ref()].into_iter().flatten().map(|key| &key.name);
        f.debug_list().entries(names).finish()
    }
}

#[derive(Clone)]
struct Key {
    /// What a token's header calls it: a part of its digest, so that nobody has to name keys.
    name: String,
    secret: Secret,
}

/// The claims, in the order in which they are signed.
#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    sub: String,
    evt: String,
    qid: String,
    pos: u64,
    max: u32,
    iat: u64,
    exp: u64,
    jti: String,
}

impl Keys {
    /// The keys of the secret's fields `admission_key` and `admission_key_former`. A key is the text of its field, byte by
    /// byte. Nothing: what is wrong is noted.
    pub fn configured(reader: &mut Reader<'_>) -> Option<Self> {
        let signing = reader.required_secret(KEY_FIELD);
        let other = reader.secret(OTHER_KEY_FIELD);
        let mut key = |field: &str, text: Option<String>| match text.map(Secret::new).map(Key::of) {
            Some(Ok(key)) => Some(key),
            Some(Err(TooShort)) => {
                reader.fault("SECRET_NAME", format!("holds {field}, which must have at least {SHORTEST_KEY} bytes"));
                None
            }
            None => None,
        };
        let (signing, other) = (key(KEY_FIELD, signing), key(OTHER_KEY_FIELD, other));
        Some(Self { signing: signing?, other })
    }

    /// The token of an admission: the same for the same admission.
    ///
    /// # Errors
    /// When its names fit into no id of a reservation, or it can't be signed.
    pub fn mint(&self, admission: &Admission) -> Result<String, Unmintable> {
        let token_id = admission.token_id();
        let unmintable = |cause: String| Unmintable { token_id: token_id.clone(), cause };
        if !is_name(&token_id) {
            return Err(unmintable(format!("its name must be 1 to {LONGEST_TOKEN_ID} of a-z 0-9 _")));
        }
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            sub: admission.user_id.clone(),
            evt: admission.show_id.clone(),
            qid: admission.queue_item_id.clone(),
            pos: admission.position,
            max: admission.most_tickets,
            iat: admission.issued_at / 1_000,
            exp: admission.expires_at / 1_000,
            jti: token_id.clone(),
        };
        self.signed(&claims).map_err(|error| unmintable(error.to_string()))
    }

    /// What a token states, if one of these keys has signed it. Whom it admits, and until when, [`Admission`] says.
    ///
    /// # Errors
    /// [`Denied::NotOurs`], whatever is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Admission, Denied> {
        let Claims { sub, evt, qid, pos, max, iat, exp, jti, .. } =
            self.claims(token, AUDIENCE).ok_or(Denied::NotOurs)?;
        let call =
            jti.strip_prefix(&format!("{qid}_{pos}_")).and_then(|call| call.parse().ok()).ok_or(Denied::NotOurs)?;
        let admission = Admission {
            user_id: sub,
            show_id: evt,
            queue_item_id: qid,
            position: pos,
            call,
            most_tickets: max,
            issued_at: iat.saturating_mul(1_000),
            expires_at: exp.saturating_mul(1_000),
        };
        // A number can be written in more than one way, and one place must not have two reservations.
        if is_name(&jti) && admission.token_id() == jti { Ok(admission) } else { Err(Denied::NotOurs) }
    }

    /// Claims as a token of the first key.
    pub(crate) fn signed(&self, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: Some(self.signing.name.clone()), ..Header::new(Algorithm::HS256) };
        encode(&header, claims, &EncodingKey::from_secret(self.signing.secret.expose().as_bytes()))
    }

    /// The claims of a token for this audience, which is among them as `aud`, if one of the keys has signed it. When it
    /// expires, in `exp`, is the caller's to judge.
    pub(crate) fn claims<C: DeserializeOwned>(&self, token: &str, audience: &str) -> Option<C> {
        if token.len() > LONGEST_TOKEN {
            return None;
        }
        let name = decode_header(token).ok()?.kid?;
        let key = [Some(&self.signing), self.other.as_ref()].into_iter().flatten().find(|key| key.name == name)?;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_audience(&[audience]);
        rules.set_required_spec_claims(&["aud", "exp", "sub"]);
        // By the caller's clock, and without the minute of leeway that is the default.
        rules.validate_exp = false;
        let key = DecodingKey::from_secret(key.secret.expose().as_bytes());
        decode(token, &key, &rules).ok().map(|read| read.claims)
    }
}

struct TooShort;

impl Key {
    fn of(secret: Secret) -> Result<Self, TooShort> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < SHORTEST_KEY {
            return Err(TooShort);
        }
        let mut name = HEXLOWER.encode(&Sha256::new_with_prefix("admission key ").chain_update(bytes).finalize());
        name.truncate(LENGTH_OF_NAME);
        Ok(Self { name, secret })
    }
}

/// Whether a token may be called so: its reservation is called after it.
fn is_name(token_id: &str) -> bool {
    token_id.len() <= LONGEST_TOKEN_ID && field::own_id(token_id).is_some()
}

#[cfg(test)]
pub(crate) mod tests;

//! The name with which a client authenticates, read from its first message. It is believed once the
//! broker has accepted the login, and never decides anything.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest name that is kept, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A mechanism, by how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mechanism {
    /// The broker's empty message accepts the client (RFC 4616, RFC 7628).
    Plain,
    OauthBearer,
    /// The broker's message with its signature accepts the client (RFC 5802).
    Scram,
}

/// A name that a client gave, and how the broker accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientName {
    mechanism: Mechanism,
    name: String,
}

impl ClientName {
    /// Reads the first message of PLAIN, SCRAM or OAUTHBEARER; `None` for any other message.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(message).ok()?;
        let (mechanism, name) = match gs2(text) {
            Some(rest) if rest.starts_with('\x01') => {
                (Mechanism::OauthBearer, oauth_subject(rest)?)
            }
            Some(rest) => (Mechanism::Scram, scram_user(rest)?),
            None => (Mechanism::Plain, plain_user(text)?),
        };
        let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
        is_name.then_some(Self { mechanism, name })
    }

    /// Returns whether a message of the broker, which reports no error, accepts the client.
    pub(crate) fn is_accepted_by(&self, message: &[u8]) -> bool {
        match self.mechanism {
            Mechanism::Plain | Mechanism::OauthBearer => message.is_empty(),
            Mechanism::Scram => message.starts_with(b"v="),
        }
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Returns what follows the header of GS2 (RFC 5801), if the message begins with one.
fn gs2(text: &str) -> Option<&str> {
    let (flag, rest) = text.split_once(',')?;
    let is_flag = matches!(flag, "n" | "y") || flag.starts_with("p=");
    is_flag.then(|| rest.split_once(',').map(|(_, rest)| rest)).flatten()
}

/// `[authzid] NUL authcid NUL passwd` (RFC 4616).
fn plain_user(text: &str) -> Option<String> {
    let mut parts = text.split('\0');
    let (_, user, _password) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| user.to_owned())
}

/// `n=user,r=nonce,…`; with `tokenauth=true` the user is the id of a delegation token (KIP-48).
fn scram_user(bare: &str) -> Option<String> {
    let mut attributes = bare.split(',').skip_while(|attribute| attribute.starts_with("m="));
    let user = attributes.next()?.strip_prefix("n=")?.replace("=2C", ",").replace("=3D", "=");
    let is_token = attributes.any(|attribute| attribute == "tokenauth=true");
    Some(if is_token { format!("token {user}") } else { user })
}

/// The claim `sub` of the token in `^Aauth=Bearer TOKEN^A…` (RFC 7628). The broker checks the token.
fn oauth_subject(rest: &str) -> Option<String> {
    let mut tokens = rest.split('\x01').filter_map(|pair| pair.strip_prefix("auth="));
    let token = tokens.next()?.split_once(' ')?.1;
    // With several, brokers take another one than the first, so none is certain.
    if tokens.next().is_some() {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(message: &str) -> Option<String> {
        ClientName::parse(message.as_bytes()).map(|parsed| parsed.name().to_owned())
    }

    #[test]
    fn names_are_read_from_each_mechanism() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"carol","exp":1}"#);
        let bearer = format!("n,,\x01auth=Bearer aa.{claims}.bb\x01\x01");
        let twice = bearer.replace("\x01\x01", "\x01auth=Bearer aa.bb.cc\x01\x01");
        for (message, expected) in [
            ("\0alice\0secret", Some("alice")),
            ("other\0alice\0secret", Some("alice")),
            ("n,,n=b=2Co=3Db,r=abc", Some("b,o=b")),
            ("n,a=admin,n=bob,r=abc", Some("bob")),
            ("n,,m=ext,n=bob,r=abc", Some("bob")),
            ("n,,n=id,r=abc,tokenauth=true", Some("token id")),
            (&bearer, Some("carol")),
            ("n,,\x01auth=Bearer garbage\x01\x01", None),
            (&twice, None),
            ("c=biws,r=abc,p=proof", None),
            ("\0\0secret", None),
            ("a\0b\0c\0d", None),
            ("", None),
        ] {
            assert_eq!(name(message).as_deref(), expected, "{message:?}");
        }
        assert_eq!(name(&format!("\0{}\0x", "a".repeat(NAME_BYTES_MAX + 1))), None);
        assert_eq!(ClientName::parse(&[0x60, 0x82, 0xff]), None, "GSSAPI");
    }

    #[test]
    fn names_are_accepted_at_the_end_of_the_exchange() {
        let plain = ClientName::parse(b"\0alice\0secret").unwrap();
        assert!(plain.is_accepted_by(b""));
        let scram = ClientName::parse(b"n,,n=bob,r=abc").unwrap();
        assert!(!scram.is_accepted_by(b"r=abcdef,s=c2FsdA==,i=4096"));
        assert!(scram.is_accepted_by(b"v=c2lnbmF0dXJl"));
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"carol"}"#);
        let bearer = format!("n,,\x01auth=Bearer aa.{claims}.bb\x01\x01");
        let bearer = ClientName::parse(bearer.as_bytes()).unwrap();
        assert!(bearer.is_accepted_by(b""));
        assert!(!bearer.is_accepted_by(br#"{"status":"invalid_token"}"#));
    }
}

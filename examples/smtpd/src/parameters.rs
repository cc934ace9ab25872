//! [`MailFrom`] and [`RcptTo`]: the arguments of `MAIL` and `RCPT`, with their parameters (RFC 1870, 6152, 6531, 4954).

use crate::address::{Mailbox, take_path};
use crate::envelope::Body;
use crate::reply::Reply;

/// What `MAIL` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what the server does not announce, it refuses")]
pub struct MailFrom {
    /// The sender; `None` for `<>`.
    pub from: Option<Mailbox>,
    /// `SIZE=`, in bytes.
    pub size: Option<u64>,
    /// `BODY=`.
    pub body: Body,
    /// Whether `SMTPUTF8` stands there.
    pub smtputf8: bool,
}

/// What `RCPT` says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "no parameter of it is announced")]
pub struct RcptTo {
    /// The recipient.
    pub to: Mailbox,
}

/// What the client was told that it may say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the two that change from session to session")]
pub struct Announced {
    /// Parameters at all: it said `EHLO` or `LHLO`.
    pub extensions: bool,
    /// `AUTH`.
    pub auth: bool,
}

impl MailFrom {
    /// Takes the argument of `MAIL` apart.
    ///
    /// # Errors
    ///
    /// The reply.
    pub fn parse(argument: &str, announced: Announced) -> Result<Self, Reply> {
        let syntax = if announced.extensions { MAIL_SYNTAX_EXTENDED } else { MAIL_SYNTAX };
        let mut rest = after(argument, "FROM:").ok_or_else(|| syntax.clone())?;
        let path = take_path(&mut rest).ok_or(syntax)?;
        let from = if path.is_empty() { None } else { Some(Mailbox::parse(path).ok_or(BAD_SENDER)?) };
        let mut mail = Self { from, ..Self::default() };
        let (mut has_body, mut has_auth) = (false, false);
        for parameter in parameters(rest, announced.extensions)? {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (parameter, None),
            };
            let is_new = if name.eq_ignore_ascii_case("SIZE") {
                let size = value.and_then(size);
                mail.size.replace(size.ok_or(BAD_SIZE)?).is_none()
            } else if name.eq_ignore_ascii_case("BODY") {
                mail.body = value.and_then(body).ok_or(BAD_BODY)?;
                !std::mem::replace(&mut has_body, true)
            } else if name.eq_ignore_ascii_case("SMTPUTF8") {
                if value.is_some() {
                    return Err(BAD_SMTPUTF8);
                }
                !std::mem::replace(&mut mail.smtputf8, true)
            } else if name.eq_ignore_ascii_case("AUTH") && announced.auth {
                // Who first sent it, says a client that is trusted to know. None is (RFC 4954, section 5).
                if value.is_none_or(str::is_empty) {
                    return Err(BAD_AUTH);
                }
                !std::mem::replace(&mut has_auth, true)
            } else {
                return Err(UNKNOWN_PARAMETER);
            };
            if !is_new {
                return Err(TWICE);
            }
        }
        match &mail.from {
            Some(from) if !mail.smtputf8 && !from.is_ascii() => Err(NOT_ASCII),
            _ => Ok(mail),
        }
    }
}

impl RcptTo {
    /// Takes the argument of `RCPT` apart, in a message that is SMTPUTF8 or not.
    ///
    /// # Errors
    ///
    /// The reply.
    pub fn parse(argument: &str, announced: Announced, smtputf8: bool) -> Result<Self, Reply> {
        let syntax = if announced.extensions { RCPT_SYNTAX_EXTENDED } else { RCPT_SYNTAX };
        let mut rest = after(argument, "TO:").ok_or_else(|| syntax.clone())?;
        let to = Mailbox::parse(take_path(&mut rest).ok_or(syntax)?).ok_or(BAD_RECIPIENT)?;
        if parameters(rest, announced.extensions)?.next().is_some() {
            return Err(UNKNOWN_PARAMETER);
        }
        if !smtputf8 && !to.is_ascii() {
            return Err(NOT_ASCII);
        }
        Ok(Self { to })
    }
}

/// What stands behind `FROM:` or `TO:`, in letters of either case.
fn after<'a>(argument: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = argument.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

/// The parameters behind a path, from which a space parts them.
fn parameters(rest: &str, are_allowed: bool) -> Result<impl Iterator<Item = &str>, Reply> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(BEHIND_PATH);
    }
    let mut parameters = rest.split(' ').filter(|parameter| !parameter.is_empty()).peekable();
    if !are_allowed && parameters.peek().is_some() { Err(UNKNOWN_PARAMETER) } else { Ok(parameters) }
}

/// A size; one of more than 64 bits is as good as the greatest of these.
fn size(digits: &str) -> Option<u64> {
    let is_size =
        (1..=SIZE_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_size.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn body(value: &str) -> Option<Body> {
    if value.eq_ignore_ascii_case("8BITMIME") {
        return Some(Body::EightBitMime);
    }
    value.eq_ignore_ascii_case("7BIT").then_some(Body::SevenBit)
}

const MAIL_SYNTAX: Reply = Reply::fixed("501 5.5.4 Syntax: MAIL FROM:<address>\r\n");
const MAIL_SYNTAX_EXTENDED: Reply = Reply::fixed("501 5.5.4 Syntax: MAIL FROM:<address> [parameters]\r\n");
const RCPT_SYNTAX: Reply = Reply::fixed("501 5.5.4 Syntax: RCPT TO:<address>\r\n");
const RCPT_SYNTAX_EXTENDED: Reply = Reply::fixed("501 5.5.4 Syntax: RCPT TO:<address> [parameters]\r\n");
const BEHIND_PATH: Reply = Reply::fixed("501 5.5.4 A space belongs behind the address\r\n");
const BAD_SENDER: Reply = Reply::fixed("501 5.1.7 This is no sender's address\r\n");
const BAD_RECIPIENT: Reply = Reply::fixed("501 5.1.3 This is no recipient's address\r\n");
const BAD_SIZE: Reply = Reply::fixed("501 5.5.4 Syntax: SIZE=bytes\r\n");
const BAD_BODY: Reply = Reply::fixed("501 5.5.4 Syntax: BODY=7BIT or BODY=8BITMIME\r\n");
const BAD_SMTPUTF8: Reply = Reply::fixed("501 5.5.4 SMTPUTF8 has no value\r\n");
const BAD_AUTH: Reply = Reply::fixed("501 5.5.4 Syntax: AUTH=address\r\n");
const TWICE: Reply = Reply::fixed("501 5.5.4 The same parameter twice\r\n");
const UNKNOWN_PARAMETER: Reply = Reply::fixed("555 5.5.4 This parameter is not known here\r\n");
const NOT_ASCII: Reply = Reply::fixed("553 5.6.7 This address needs SMTPUTF8\r\n");

/// Most digits of a size: 20 (RFC 1870, section 4).
const SIZE_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENDED: Announced = Announced { extensions: true, auth: false };

    fn refusal(argument: &str, announced: Announced) -> u16 {
        MailFrom::parse(argument, announced).expect_err(argument).code()
    }

    #[test]
    fn a_sender_comes_with_what_is_said_of_the_message() {
        let mail = MailFrom::parse("from:<a@b> size=10 Body=8bitmime SMTPUTF8", EXTENDED).unwrap();
        let expected = MailFrom {
            from: Mailbox::parse("a@b"),
            size: Some(10),
            body: Body::EightBitMime,
            smtputf8: true,
        };
        assert_eq!(mail, expected);
        assert_eq!(MailFrom::parse("FROM: <>  ", Announced::default()).unwrap(), MailFrom::default());
        assert!(MailFrom::parse("FROM:<a@b> BODY=7BIT", EXTENDED).is_ok());
        let largest = MailFrom::parse("FROM:<a@b> SIZE=99999999999999999999", EXTENDED).unwrap();
        assert_eq!(largest.size, Some(u64::MAX), "20 digits are a size (RFC 1870, section 4)");
        assert!(MailFrom::parse("FROM:<jörg@b> SMTPUTF8", EXTENDED).is_ok());
        assert!(MailFrom::parse("FROM:<a@b> AUTH=<>", Announced { auth: true, ..EXTENDED }).is_ok());
    }

    #[test]
    fn each_fault_of_mail_has_its_code() {
        for (argument, code) in [
            ("", 501),
            ("a@b", 501),
            ("FROM a@b", 501),
            ("FROM:", 501),
            ("FROM:<a@b", 501),
            ("FROM:<a@b>SIZE=1", 501),
            ("FROM:<a b@c>", 501),
            ("FROM:<a@b> SIZE", 501),
            ("FROM:<a@b> SIZE=", 501),
            ("FROM:<a@b> SIZE=x", 501),
            ("FROM:<a@b> SIZE=999999999999999999999", 501),
            ("FROM:<a@b> SIZE=-1", 501),
            ("FROM:<a@b> SIZE=1 SIZE=1", 501),
            ("FROM:<a@b> BODY=BINARYMIME", 501),
            ("FROM:<a@b> SMTPUTF8=1", 501),
            ("FROM:<a@b> AUTH=<>", 555),
            ("FROM:<a@b> RET=HDRS", 555),
            ("FROM:<jörg@b>", 553),
        ] {
            assert_eq!(refusal(argument, EXTENDED), code, "{argument}");
        }
        assert_eq!(refusal("FROM:<a@b> SIZE=1", Announced::default()), 555);
        assert_eq!(refusal("FROM:<a@b> AUTH=", Announced { auth: true, ..EXTENDED }), 501);
    }

    #[test]
    fn a_recipient_is_an_address_without_parameters() {
        let rcpt =
            |argument, smtputf8| RcptTo::parse(argument, EXTENDED, smtputf8).map_err(|reply| reply.code());
        assert_eq!(rcpt("to: <a@b>", false).unwrap().to.as_str(), "a@b");
        assert_eq!(rcpt("TO:<PostMaster>", false).unwrap().to.domain(), None);
        assert!(rcpt("TO:<jörg@b>", true).is_ok());
        for (argument, code) in [
            ("<a@b>", 501),
            ("TO:<>", 501),
            ("TO:", 501),
            ("TO:<a@b> NOTIFY=NEVER", 555),
            ("TO:<jörg@b>", 553),
        ] {
            assert_eq!(rcpt(argument, false), Err(code), "{argument}");
        }
    }
}

//! Passing messages on.
/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[expect(clippy::exhaustive_enums, reason = "these are all")]
pub enum RelayTls {
    /// No.
    None,
    /// May.
    May,
    /// Must.
    Must,
}

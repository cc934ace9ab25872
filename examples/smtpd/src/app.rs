//! [`App`]: what all channels of the server share.

use std::rc::Rc;

use crate::delivery::Delivery;
use crate::settings::Settings;

/// The application state of the map.
#[expect(missing_debug_implementations, reason = "a delivery is anything")]
pub struct App {
    /// What the server was told to be; it does not change while it runs.
    pub settings: Rc<Settings>,
    /// Where messages go.
    pub delivery: Rc<dyn Delivery>,
}

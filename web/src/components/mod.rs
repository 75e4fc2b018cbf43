//! The parts of the page: what they show comes from [`crate::hooks::use_slice`], what they do goes
//! through [`crate::hooks::Desk`].

pub(crate) mod banners;
pub(crate) mod client_panel;
pub(crate) mod experiment;
pub(crate) mod faults;
pub(crate) mod feed;
pub(crate) mod forms;
pub(crate) mod header;
pub(crate) mod help;
pub(crate) mod icon;
pub(crate) mod inspector;
pub(crate) mod legend;
pub(crate) mod link;
pub(crate) mod link_panel;
pub(crate) mod message_panel;
pub(crate) mod messages;
pub(crate) mod node;
pub(crate) mod node_panel;
pub(crate) mod node_select;
pub(crate) mod output;
pub(crate) mod slider;
pub(crate) mod stage;
pub(crate) mod tabs;
pub(crate) mod terminal;
pub(crate) mod time_bar;

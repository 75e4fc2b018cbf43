//! Icons: one path each, in the colour of the text around.

use yew::prelude::*;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Icon {
    Play,
    Pause,
    StepEvent,
    StepMessage,
    Again,
    Dice,
    Save,
    Open,
    Sun,
    Moon,
    Auto,
    Heal,
    Plus,
    Close,
}

impl Icon {
    fn path(self) -> &'static str {
        match self {
            Icon::Play => "M6 4l13 8-13 8z",
            Icon::Pause => "M7 5v14M17 5v14",
            Icon::StepEvent => "M5 5l9 7-9 7zM19 5v14",
            Icon::StepMessage => "M3 6h18v12H3zM3 7l9 7 9-7",
            Icon::Again => "M4 12a8 8 0 1 1 2.5 5.8M4 19v-5h5",
            Icon::Dice => {
                "M4 4h16v16H4zM8.5 8.5h.01M15.5 8.5h.01M12 12h.01M8.5 15.5h.01M15.5 15.5h.01"
            }
            Icon::Save => "M12 3v12M7 10l5 5 5-5M4 20h16",
            Icon::Open => "M12 16V4M7 9l5-5 5 5M4 20h16",
            Icon::Sun => {
                "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5\
                 M17.5 17.5L19 19M5 19l1.5-1.5M17.5 6.5L19 5"
            }
            Icon::Moon => "M20 14.5A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.5z",
            Icon::Auto => "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18v18M12 8h6M12 12h8M12 16h6",
            Icon::Heal => {
                "M12 20S3 14.5 3 8.5A4.5 4.5 0 0 1 12 7a4.5 4.5 0 0 1 9 1.5C21 14.5 12 20 12 20z"
            }
            Icon::Plus => "M12 5v14M5 12h14",
            Icon::Close => "M6 6l12 12M18 6L6 18",
        }
    }
}

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) icon: Icon,
}

#[component]
pub(crate) fn IconView(props: &Props) -> Html {
    html! {
        <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
            <path d={props.icon.path()} />
        </svg>
    }
}

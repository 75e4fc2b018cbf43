//! What a command printed, with its exit code.

use std::rc::Rc;

use yew::prelude::*;

use crate::state::runs::{Run, Source};

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) run: Rc<Run>,
}

#[component]
pub(crate) fn Output(props: &Props) -> Html {
    let run = &props.run;
    let piece = |(source, data): &(Source, Vec<u8>)| {
        let class = match source {
            Source::Stdout => "out",
            Source::Stderr => "err",
            Source::Typed => "typed",
        };
        html! { <span {class}>{ String::from_utf8_lossy(data).into_owned() }</span> }
    };
    html! {
        <>
            if run.is_truncated { <span class="faint">{ "…\n" }</span> }
            { for run.output.iter().map(piece) }
            if let Some(code) = run.code.filter(|code| *code != 0) {
                <span class="code">{ format!("exit code {code}\n") }</span>
            }
        </>
    }
}

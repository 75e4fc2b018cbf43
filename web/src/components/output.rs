//! What a command printed, with its exit code.

use yew::prelude::*;

use crate::state::runs::{Run, Source};

pub(crate) fn output(run: &Run) -> Html {
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

//! The event feed: what happened, in plain words. It follows the newest line until somebody
//! scrolls up to read.

use std::rc::Rc;

use coracle_worker::protocol::NodeNumber;
use yew::prelude::*;

use super::node_select::{Choice, node_select};
use crate::hooks::use_slice;
use crate::state::feed::{Filter, Line, Topic};
use crate::{dom, paint};

const LIST: &str = "feed-lines";
/// Lines in the page; the older ones are kept for a narrower filter.
const SHOWN_MAX: usize = 250;

#[component]
pub(crate) fn FeedPanel() -> Html {
    let filter = use_state(Filter::default);
    let nodes = use_slice((), |state, ()| state.ring());
    let is_reading = use_state_eq(|| false);
    let onscroll = {
        let is_reading = is_reading.clone();
        Callback::from(move |_: Event| {
            if let Some(list) = dom::element(LIST) {
                is_reading.set(!dom::is_at_end(&list));
            }
        })
    };
    let to_end = Callback::from(|_: MouseEvent| {
        if let Some(list) = dom::element(LIST) {
            dom::follow_end(&list);
        }
    });
    html! {
        <div class="feed">
            { filters(&filter, &nodes) }
            <div id={LIST} class="feed-lines" data-testid="feed" tabindex="0" role="log"
                aria-live="off" aria-label="Events" {onscroll}>
                <Lines filter={(*filter).clone()} is_reading={*is_reading} />
            </div>
            if *is_reading {
                <button class="to-end" data-testid="feed-newest" onclick={to_end}>
                    { "Newest ↓" }
                </button>
            }
        </div>
    }
}

#[derive(Properties, PartialEq)]
struct LinesProps {
    filter: Filter,
    is_reading: bool,
}

#[component]
fn Lines(props: &LinesProps) -> Html {
    let LinesProps { filter, is_reading } = props;
    // While somebody reads, the lines stay where they are.
    let kept = use_mut_ref(|| None::<Vec<Rc<Line>>>);
    let fresh = use_slice((filter.clone(), *is_reading), |state, (filter, is_reading)| {
        (!is_reading).then(|| {
            let mut lines = state.feed.lines(filter);
            lines.drain(..lines.len().saturating_sub(SHOWN_MAX));
            lines
        })
    });
    let lines = match fresh {
        Some(lines) => {
            *kept.borrow_mut() = Some(lines.clone());
            lines
        }
        None => kept.borrow().clone().unwrap_or_default(),
    };
    let newest = lines.last().map(|line| (line.number, line.count));
    // A list that was hidden has forgotten where it was.
    let tab = use_slice((), |state, ()| state.tab);
    use_effect_with((newest, *is_reading, tab), |(_, is_reading, _)| {
        if let Some(list) = dom::element(LIST).filter(|_| !is_reading) {
            dom::follow_end(&list);
        }
    });
    if lines.is_empty() {
        return html! { <p class="faint">{ "Nothing yet." }</p> };
    }
    html! {
        <ol>
            { for lines.iter().map(|line| html! {
                <LineView key={line.number} line={line.clone()} />
            }) }
        </ol>
    }
}

#[derive(Properties, PartialEq)]
struct LineProps {
    line: Rc<Line>,
}

#[component]
fn LineView(props: &LineProps) -> Html {
    let Line { at, node, topic, ref text, .. } = *props.line;
    let clock = paint::format_clock(at / 1000);
    let topic = topic.name().to_ascii_lowercase();
    html! {
        <li class={format!("feed-{topic}")} data-topic={topic.clone()} data-node={node.to_string()}>
            <time>{ clock.split(' ').next().unwrap_or_default() }</time>
            <span>{ text }</span>
        </li>
    }
}

fn filters(filter: &UseStateHandle<Filter>, nodes: &[NodeNumber]) -> Html {
    let topic = |topic: Topic| {
        let is_shown = filter.topics.contains(&topic);
        let filter = filter.clone();
        let onclick = Callback::from(move |_| {
            let mut next = (*filter).clone();
            match is_shown {
                true => next.topics.retain(|other| *other != topic),
                false => next.topics.push(topic),
            }
            filter.set(next);
        });
        let id = topic.name().to_ascii_lowercase();
        html! {
            <button class={classes!("pill", is_shown.then_some("is-chosen"))} {onclick}
                aria-pressed={is_shown.to_string()} data-testid={format!("feed-filter-{id}")}>
                { topic.name() }
            </button>
        }
    };
    let onchange = {
        let filter = filter.clone();
        Callback::from(move |node| filter.set(Filter { node, ..(*filter).clone() }))
    };
    let select = node_select(Choice {
        id: "feed-node",
        label: "Of which node",
        none: "all nodes",
        nodes,
        node: filter.node,
        onchange,
    });
    html! {
        <div class="feed-filter">
            { select }
            { for Topic::ALL.into_iter().map(topic) }
        </div>
    }
}

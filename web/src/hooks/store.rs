//! The one store of the page's state, and who listens to it.
//!
//! Frames come sixty times a second. A component that re-rendered at each would make the page
//! slow, so each names the slice of the state that it shows, and renders when that has changed.

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use yew::prelude::*;

use super::use_desk;
use crate::state::{Msg, State};

type Watcher = Rc<dyn Fn(&State)>;
/// Ends an effect.
type End = Box<dyn FnOnce()>;

#[derive(Default)]
struct Inner {
    state: RefCell<State>,
    watchers: RefCell<Vec<(u64, Watcher)>>,
    next: RefCell<u64>,
}

#[derive(Clone, Default)]
pub(crate) struct Store(Rc<Inner>);

impl Store {
    pub(crate) fn read(&self) -> Ref<'_, State> {
        self.0.state.borrow()
    }

    /// Changes the state and tells all that watch it.
    pub(crate) fn dispatch(&self, msg: Msg) {
        self.dispatch_all([msg]);
    }

    /// Makes all these changes at once: who watches sees their end only.
    pub(crate) fn dispatch_all(&self, msgs: impl IntoIterator<Item = Msg>) {
        {
            let mut state = self.0.state.borrow_mut();
            msgs.into_iter().for_each(|msg| state.reduce(msg));
        }
        // A watcher may come or go meanwhile.
        let watchers: Vec<_> =
            self.0.watchers.borrow().iter().map(|(_, watcher)| watcher.clone()).collect();
        let state = self.read();
        for watcher in watchers {
            watcher(&state);
        }
    }

    /// Calls `watcher` after each change, until the subscription is dropped.
    fn watch(&self, watcher: impl Fn(&State) + 'static) -> Subscription {
        let number = *self.0.next.borrow();
        *self.0.next.borrow_mut() += 1;
        self.0.watchers.borrow_mut().push((number, Rc::new(watcher)));
        Subscription { store: self.clone(), number }
    }

    pub(crate) fn is(&self, other: &Store) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

struct Subscription {
    store: Store,
    number: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.store.0.watchers.borrow_mut().retain(|(number, _)| *number != self.number);
    }
}

/// What `select` finds in the state for `key`. The component renders again when that changes.
#[hook]
pub(crate) fn use_slice<K, T>(key: K, select: fn(&State, &K) -> T) -> T
where
    K: PartialEq + Clone + 'static,
    T: PartialEq + Clone + 'static,
{
    let desk = use_desk();
    let update = use_force_update();
    let shown = use_mut_ref(|| None::<T>);
    let current = select(&desk.store.read(), &key);
    *shown.borrow_mut() = Some(current.clone());
    let watch = move |key: &K| {
        let key = key.clone();
        let subscription = desk.store.watch(move |state| {
            let current = select(state, &key);
            let is_same = shown.borrow().as_ref() == Some(&current);
            if !is_same {
                *shown.borrow_mut() = Some(current);
                update.force_update();
            }
        });
        Box::new(move || drop(subscription)) as End
    };
    // As one type, not one for every `T`: Yew's code for an effect is made for each.
    let watch: Box<dyn FnOnce(&K) -> End> = Box::new(watch);
    use_effect_with(key, watch);
    current
}

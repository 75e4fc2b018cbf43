//! Folders and files of OPFS, with its promises awaited and its errors named.

use js_sys::Uint8Array;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemRemoveOptions, FileSystemSyncAccessHandle,
};

use super::super::scope;

/// A terminated worker's handles are let go a moment later: so often is tried again …
const TRIES: u32 = 200;
/// … and so many milliseconds lie between.
const PAUSE_MS: f64 = 10.0;

/// A folder of the browser's file system.
#[derive(Clone)]
pub(in crate::web) struct Folder(FileSystemDirectoryHandle);

/// The folder of everything that is ours.
pub(in crate::web) async fn site() -> Result<Folder, JsValue> {
    let navigator = scope::worker().navigator();
    // Undefined where the page came over plain HTTP, or the browser is too old.
    let storage = js_sys::Reflect::get(&navigator, &"storage".into())?;
    if storage.is_undefined() || !js_sys::Reflect::has(&storage, &"getDirectory".into())? {
        return Err(JsValue::from_str("no storage is offered here"));
    }
    let root = JsFuture::from(navigator.storage().get_directory()).await?;
    Folder(root.unchecked_into()).folder("coracle", true).await
}

impl Folder {
    pub(in crate::web) async fn folder(&self, name: &str, create: bool) -> Result<Folder, JsValue> {
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(create);
        let promise = self.0.get_directory_handle_with_options(name, &options);
        Ok(Folder(JsFuture::from(promise).await?.unchecked_into()))
    }

    async fn file(&self, name: &str, create: bool) -> Result<FileSystemFileHandle, JsValue> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(create);
        let promise = self.0.get_file_handle_with_options(name, &options);
        Ok(JsFuture::from(promise).await?.unchecked_into())
    }

    /// Opens a file for this worker alone. `None`: there is none, and it was not to be created.
    pub(in crate::web) async fn open(
        &self,
        name: &str,
        create: bool,
    ) -> Result<Option<FileSystemSyncAccessHandle>, JsValue> {
        let file = match self.file(name, create).await {
            Err(error) if scope::name(&error) == "NotFoundError" => return Ok(None),
            file => file?,
        };
        let mut tries = TRIES;
        loop {
            match JsFuture::from(file.create_sync_access_handle()).await {
                Err(error) if is_held(&error) && tries > 0 => tries -= 1,
                handle => return Ok(Some(handle?.unchecked_into())),
            }
            scope::sleep(PAUSE_MS, |_| ()).await;
        }
    }

    /// The bytes of a file that nobody needs to have open; `None` where there is none.
    pub(in crate::web) async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, JsValue> {
        let file = match self.file(name, false).await {
            Err(error) if scope::name(&error) == "NotFoundError" => return Ok(None),
            file => file?,
        };
        let file: File = JsFuture::from(file.get_file()).await?.unchecked_into();
        let buffer = JsFuture::from(file.array_buffer()).await?;
        Ok(Some(Uint8Array::new(&buffer).to_vec()))
    }

    /// Removes a folder with all that is in it, if there is one.
    pub(in crate::web) async fn remove(&self, name: &str) -> Result<(), JsValue> {
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        let mut tries = TRIES;
        loop {
            match JsFuture::from(self.0.remove_entry_with_options(name, &options)).await {
                Err(error) if scope::name(&error) == "NotFoundError" => return Ok(()),
                Err(error) if is_held(&error) && tries > 0 => tries -= 1,
                done => return done.map(|_| ()),
            }
            scope::sleep(PAUSE_MS, |_| ()).await;
        }
    }
}

/// Whether another worker has the file open.
fn is_held(error: &JsValue) -> bool {
    scope::name(error) == "NoModificationAllowedError"
}

//! `grpc.health.v1.Health`: whether this server serves. W-08.

use std::collections::HashMap;

use coracle_core::error::{Code, Error};

use super::messages::health::health_check_response::ServingStatus;
use super::messages::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use super::{Context, Method, method};
use crate::front::call::Call;

pub(super) const METHODS: [Method; 3] = [
    method!("grpc.health.v1.Health" "Check" "unary" check),
    method!("grpc.health.v1.Health" "List" "unary" list),
    method!("grpc.health.v1.Health" "Watch" "server_stream" watch),
];

/// The only name under which a status is known: that of the whole server.
const SERVER: &str = "";

fn response(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status as i32 }
}

async fn check(context: Context, call: Call) {
    call.unary(async |request: HealthCheckRequest| match request.service.as_str() {
        SERVER => Ok(response(*context.serving.borrow())),
        _ => Err(Error::Other(Code::NotFound, "unknown service".to_owned())),
    })
    .await;
}

async fn list(context: Context, call: Call) {
    call.unary(async |_: HealthListRequest| {
        let server = (SERVER.to_owned(), response(*context.serving.borrow()));
        Ok(HealthListResponse { statuses: HashMap::from([server]) })
    })
    .await;
}

/// Tells the status now and whenever it changes. That of an unknown service is just that: it may
/// become known, so the stream goes on.
async fn watch(context: Context, call: Call) {
    let Some((mut requests, mut responses)) = call.stream() else { return };
    let request = match requests.next().await {
        Some(Ok(request)) => request,
        Some(Err(status)) => return responses.finish(Err(status)),
        None => HealthCheckRequest::default(),
    };
    let mut serving = context.serving;
    loop {
        let told = match request.service.as_str() {
            SERVER => response(*serving.borrow_and_update()),
            _ => HealthCheckResponse { status: ServingStatus::ServiceUnknown as i32 },
        };
        if !responses.send_when_ready(&told).await {
            return;
        }
        let changed = async {
            match request.service.as_str() {
                SERVER => serving.changed().await.is_ok(),
                _ => std::future::pending().await,
            }
        };
        if responses.unless_gone(changed).await != Some(true) {
            return responses.finish(Err(Error::Stopped.into()));
        }
    }
}

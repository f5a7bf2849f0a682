//! Every operation of the interface, once: the router is made of this table.

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{self, MethodRouter};

use super::guard::{Access, Holder, Reach, admit};
use super::problem::Problem;
use super::{Api, MAX_BODY, MAX_REQUEST};
use super::{backup, composite, credentials, devices, events, models, observations, requests, tokens, trace};
use crate::access::Permission::{self, Administer, Credentials, Operate, View};

/// One operation: where it is, what it takes, and what does it.
struct Operation {
    path: &'static str,
    /// Open to everybody without.
    access: Option<Access>,
    handler: MethodRouter<Api>,
}

impl Operation {
    fn new(path: &'static str, permission: Permission, handler: MethodRouter<Api>) -> Self {
        let reach = if path.contains("{endpoint}") { Reach::Device } else { Reach::Own };
        Self { path, access: Some(Access { permission, reach }), handler }
    }

    /// It concerns all devices, or the server itself.
    fn of_the_fleet(mut self) -> Self {
        self.access = self.access.map(|access| Access { reach: Reach::Fleet, ..access });
        self
    }

    /// It asks for no token.
    fn open(mut self) -> Self {
        self.access = None;
        self
    }
}

fn get<T: 'static>(path: &'static str, permission: Permission, handler: impl Handler<T, Api>) -> Operation {
    Operation::new(path, permission, routing::get(handler))
}

fn put<T: 'static>(path: &'static str, permission: Permission, handler: impl Handler<T, Api>) -> Operation {
    Operation::new(path, permission, routing::put(handler))
}

fn post<T: 'static>(path: &'static str, permission: Permission, handler: impl Handler<T, Api>) -> Operation {
    Operation::new(path, permission, routing::post(handler))
}

fn delete<T: 'static>(
    path: &'static str,
    permission: Permission,
    handler: impl Handler<T, Api>,
) -> Operation {
    Operation::new(path, permission, routing::delete(handler))
}

fn table() -> Vec<Operation> {
    vec![
        get("/v1/health", View, super::health).open(),
        get("/v1/devices", View, devices::list),
        get("/v1/devices/{endpoint}", View, devices::show),
        delete("/v1/devices/{endpoint}", Operate, devices::forget),
        get("/v1/devices/{endpoint}/objects/{*path}", View, devices::read),
        put("/v1/devices/{endpoint}/objects/{*path}", Operate, devices::write),
        post("/v1/devices/{endpoint}/objects/{*path}", Operate, devices::create_or_execute),
        delete("/v1/devices/{endpoint}/objects/{*path}", Operate, devices::delete),
        get("/v1/devices/{endpoint}/composite", View, composite::read),
        put("/v1/devices/{endpoint}/composite", Operate, composite::write),
        post("/v1/devices/{endpoint}/composite", Operate, observations::observe),
        get("/v1/devices/{endpoint}/discover/{*path}", View, devices::discover),
        put("/v1/devices/{endpoint}/attributes/{*path}", Operate, devices::attributes),
        get("/v1/devices/{endpoint}/observations", View, observations::list),
        post("/v1/devices/{endpoint}/observations", Operate, observations::observe),
        delete("/v1/devices/{endpoint}/observations", Operate, observations::cancel),
        get("/v1/devices/{endpoint}/observations/{id}", View, observations::show),
        get("/v1/devices/{endpoint}/credentials", View, credentials::show),
        put("/v1/devices/{endpoint}/credentials", Credentials, credentials::enrol),
        post("/v1/devices/{endpoint}/credentials/rotate", Credentials, credentials::rotate),
        post("/v1/devices/{endpoint}/credentials/revoke", Credentials, credentials::revoke),
        post("/v1/devices/{endpoint}/credentials/suspend", Credentials, credentials::suspend),
        post("/v1/devices/{endpoint}/credentials/resume", Credentials, credentials::resume),
        post("/v1/devices/{endpoint}/credentials/decommission", Credentials, credentials::decommission),
        get("/v1/devices/{endpoint}/credentials/history", View, credentials::history),
        get("/v1/devices/{endpoint}/requests", View, requests::list),
        get("/v1/devices/{endpoint}/requests/{id}", View, requests::show),
        delete("/v1/devices/{endpoint}/requests/{id}", Operate, requests::cancel),
        get("/v1/devices/{endpoint}/trace", View, trace::stream),
        get("/v1/server-keys", View, credentials::server_keys).of_the_fleet(),
        get("/v1/models", View, models::list),
        post("/v1/models", Administer, models::add).of_the_fleet(),
        get("/v1/models/{id}", View, models::show),
        get("/v1/tokens", Administer, tokens::list),
        post("/v1/tokens", Administer, tokens::make),
        get("/v1/tokens/{name}", Administer, tokens::show),
        delete("/v1/tokens/{name}", Administer, tokens::revoke),
        get("/v1/audit", View, events::audit),
        post("/v1/backup", Administer, backup::make).of_the_fleet(),
        get("/v1/events", View, events::stream),
        get("/v1/metrics", View, super::metrics).of_the_fleet(),
    ]
}

/// The routes, without a listener.
pub(super) fn router(api: Api) -> Router {
    let mut routes = Router::new();
    for Operation { path, access, handler } in table() {
        let handler = match access {
            Some(access) => handler.route_layer(middleware::from_fn_with_state((api.clone(), access), admit)),
            None => handler,
        };
        routes = routes.route(&format!("/api{path}"), handler);
    }
    routes
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(bounded))
        .with_state(api)
}

/// No answer is waited for forever; of a stream only its head is waited for here.
async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(MAX_REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(504, "Timeout", "the request took longer than 600 seconds").into_response(),
    }
}

async fn no_such_route(_: Holder, uri: Uri) -> Problem {
    Problem::new(404, "No such route", format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(_: Holder, method: Method, uri: Uri) -> Problem {
    Problem::new(405, "Method not allowed", format!("{method} does not work on {}", uri.path()))
}

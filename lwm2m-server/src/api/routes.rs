//! Every operation of the interface, once: router and OpenAPI document are made of this table.

use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Info, OpenApi, Paths};

use super::guard::Holder;
use super::health::{Health, health, ready};
use super::operation::{BEARER, Operation, delete, get, post, put};
use super::problem::Problem;
use super::{Api, MAX_BODY, MAX_REQUEST, metrics};
use super::{
    backup, campaigns, composite, credentials, devices, events, groups, models, observations, profiles,
    requests, tokens, trace, values,
};
use crate::access::Permission::{Administer, Campaigns, Credentials, Operate, View};
use crate::profiles::Body;
use crate::queue::{CreatedAt, Links};
use crate::store::TokenRecord;

/// The operations by what they are about.
fn table() -> Vec<(&'static str, Vec<Operation>)> {
    vec![
        ("Devices", devices()),
        ("Objects", objects()),
        ("Observations", observations()),
        ("Requests that wait", requests()),
        ("Credentials", credentials()),
        ("Campaigns", campaigns()),
        ("Groups", groups()),
        ("Bootstrap profiles", profiles()),
        ("Definitions of objects", models()),
        ("Tokens", tokens()),
        ("Server", server()),
    ]
}

fn devices() -> Vec<Operation> {
    vec![
        get("/v1/devices", View, "List devices", devices::list)
            .about("Those that are registered and those that are enrolled, by name.")
            .query::<devices::ListQuery>()
            .answers::<devices::DeviceList>(200, "A page of them."),
        get("/v1/devices/{endpoint}", View, "Show a device", devices::show)
            .answers::<devices::ShownDevice>(200, "The device."),
        delete("/v1/devices/{endpoint}", Operate, "Forget a registration", devices::forget)
            .about("The device then registers anew; its credentials stay.")
            .done("It is forgotten."),
        get("/v1/devices/{endpoint}/trace", View, "Trace a device", trace::stream)
            .about("Its messages from now on, decoded and without secrets, until the token ends.")
            .answers_text("text/event-stream", "The event `packet` for each."),
    ]
}

fn objects() -> Vec<Operation> {
    vec![
        get("/v1/devices/{endpoint}/objects/{*path}", View, "Read", devices::read)
            .query::<devices::ReadQuery>()
            .asks_the_device()
            .answers::<values::Values>(200, "The values."),
        put("/v1/devices/{endpoint}/objects/{*path}", Operate, "Write", devices::write)
            .query::<devices::WriteQuery>()
            .body::<values::Written>()
            .asks_the_device()
            .done("They are written."),
        post(
            "/v1/devices/{endpoint}/objects/{*path}",
            Operate,
            "Create or execute",
            devices::create_or_execute,
        )
        .about("Creates an instance of an object, or executes a resource.")
        .body::<devices::CreateOrExecute>()
        .asks_the_device()
        .answers::<devices::Executed>(200, "The resource was executed.")
        .answers::<CreatedAt>(201, "The instance was created."),
        delete("/v1/devices/{endpoint}/objects/{*path}", Operate, "Delete", devices::delete)
            .about("Deletes an instance of an object, or of a resource.")
            .asks_the_device()
            .done("It is deleted."),
        get("/v1/devices/{endpoint}/discover/{*path}", View, "Discover", devices::discover)
            .query::<devices::DiscoverQuery>()
            .asks_the_device()
            .answers::<Links>(200, "What there is."),
        put("/v1/devices/{endpoint}/attributes/{*path}", Operate, "Write attributes", devices::attributes)
            .about("Numbers; `null` unsets one.")
            .body::<values::Attributes>()
            .asks_the_device()
            .done("They are written."),
        get("/v1/devices/{endpoint}/composite", View, "Read several places", composite::read)
            .about("What is not there is left out.")
            .query::<composite::ReadQuery>()
            .asks_the_device()
            .answers::<values::Values>(200, "The values."),
        put("/v1/devices/{endpoint}/composite", Operate, "Write several places", composite::write)
            .about("All or none of them.")
            .body::<composite::WriteBody>()
            .asks_the_device()
            .done("They are written."),
        post("/v1/devices/{endpoint}/composite", Operate, "Observe several places", observations::observe)
            .about("The same as `POST …/observations`, under the name of the operation.")
            .body::<observations::ObserveBody>()
            .asks_the_device()
            .answers::<observations::Stands>(201, "It stands; these are the first values.")
            .refuses(&[409]),
    ]
}

fn observations() -> Vec<Operation> {
    vec![
        get("/v1/devices/{endpoint}/observations", View, "List observations", observations::list)
            .answers::<observations::ObservationList>(200, "Those that last, then the others."),
        post("/v1/devices/{endpoint}/observations", Operate, "Observe", observations::observe)
            .about("Values come as the event `notification`.")
            .body::<observations::ObserveBody>()
            .asks_the_device()
            .answers::<observations::Stands>(201, "It stands; these are the first values.")
            .refuses(&[409]),
        delete("/v1/devices/{endpoint}/observations", Operate, "End an observation", observations::cancel)
            .query::<observations::CancelQuery>()
            .done("It has ended.")
            .refuses(&[403, 405, 406, 415, 502, 503]),
        get("/v1/devices/{endpoint}/observations/{id}", View, "Show an observation", observations::show)
            .answers::<observations::Observation>(200, "The observation."),
    ]
}

fn requests() -> Vec<Operation> {
    vec![
        get("/v1/devices/{endpoint}/requests", View, "List requests", requests::list)
            .about("Those that wait, and those that ended lately.")
            .answers::<requests::RequestList>(200, "Oldest first."),
        get("/v1/devices/{endpoint}/requests/{id}", View, "Show a request", requests::show)
            .answers::<requests::ShownRequest>(200, "The request with its state and outcome."),
        delete("/v1/devices/{endpoint}/requests/{id}", Operate, "Cancel a request", requests::cancel)
            .done("It is taken out.")
            .refuses(&[409, 503]),
    ]
}

fn credentials() -> Vec<Operation> {
    vec![
        get("/v1/devices/{endpoint}/credentials", View, "Show credentials", credentials::show)
            .answers::<credentials::DeviceCredentials>(200, "Everything but what is secret."),
        put("/v1/devices/{endpoint}/credentials", Credentials, "Enrol credentials", credentials::enrol)
            .about("Accounts that are left out stay as they are. What is drawn here is shown in this answer alone.")
            .body::<credentials::EnrolBody>()
            .answers::<credentials::Enrolled>(200, "They were there already.")
            .answers::<credentials::Enrolled>(201, "There are new ones.")
            .refuses(&[409, 422]),
        post("/v1/devices/{endpoint}/credentials/rotate", Credentials, "Rotate", credentials::rotate)
            .about("Replaces the management credential by way of a bootstrap, with proof and rollback.")
            .body::<credentials::RotateBody>()
            .answers::<credentials::Rotated>(202, "It has begun.")
            .refuses(&[409]),
        post("/v1/devices/{endpoint}/credentials/revoke", Credentials, "Revoke", credentials::revoke)
            .about("Refuses an account, or the whole device, for good.")
            .body::<credentials::RevokeBody>()
            .answers::<credentials::CredentialSummary>(200, "Sessions are closed.")
            .refuses(&[409]),
        post("/v1/devices/{endpoint}/credentials/suspend", Credentials, "Suspend", credentials::suspend)
            .about("Refuses the device until it is resumed.")
            .body::<credentials::ReasonBody>()
            .answers::<credentials::CredentialSummary>(200, "Sessions are closed.")
            .refuses(&[409]),
        post("/v1/devices/{endpoint}/credentials/resume", Credentials, "Resume", credentials::resume)
            .about("Lifts a suspension.")
            .body::<credentials::ReasonBody>()
            .answers::<credentials::CredentialSummary>(200, "The device is let in again.")
            .refuses(&[409]),
        post("/v1/devices/{endpoint}/credentials/decommission", Credentials, "Decommission", credentials::decommission)
            .about("Revokes the device, and leaves a tombstone under its name.")
            .body::<credentials::ReasonBody>()
            .answers::<credentials::CredentialSummary>(200, "Sessions are closed.")
            .refuses(&[409]),
        get("/v1/devices/{endpoint}/credentials/history", View, "Show the history of credentials", credentials::history)
            .query::<credentials::HistoryQuery>()
            .answers::<credentials::History>(200, "Rows of the audit log."),
        get("/v1/server-keys", View, "List keys of the server", credentials::server_keys)
            .about("What devices were told to expect of the server, and who was.")
            .of_the_fleet()
            .query::<credentials::ServerKeysQuery>()
            .answers::<credentials::ServerKeyList>(200, "Those of now, and those that devices were told of."),
    ]
}

fn campaigns() -> Vec<Operation> {
    let decides = |operation: Operation| {
        let decided = operation.answers::<campaigns::ShownCampaign>(200, "Where it stands now.");
        decided.refuses(&[400, 404, 409, 503])
    };
    vec![
        get("/v1/campaigns", View, "List campaigns", campaigns::list)
            .about("Those that have no devices but those of the token, the newest first.")
            .query::<campaigns::ListQuery>()
            .answers::<campaigns::CampaignList>(200, "A page of them."),
        post("/v1/campaigns", Campaigns, "Make a campaign", campaigns::make)
            .about("It takes the permission of what is done besides: `credentials` to rotate, `operate` for the rest.")
            .query::<campaigns::MakeQuery>()
            .body::<campaigns::MakeCampaign>()
            .answers::<campaigns::DryRun>(200, "What would be done, with `dry_run`.")
            .answers::<campaigns::ShownCampaign>(201, "It is made; its devices are fixed.")
            .refuses(&[404, 409, 503]),
        get("/v1/campaigns/{id}", View, "Show a campaign", campaigns::show)
            .answers::<campaigns::ShownCampaign>(200, "Where it stands.")
            .refuses(&[400, 404]),
        get("/v1/campaigns/{id}/devices", View, "List the devices of a campaign", campaigns::devices)
            .query::<campaigns::DevicesQuery>()
            .answers::<campaigns::DeviceList>(200, "A page of them, in the order in which they are started.")
            .refuses(&[404]),
        decides(
            post("/v1/campaigns/{id}/approve", Campaigns, "Approve a campaign", campaigns::approve)
                .about("By a token of another name than who made it."),
        ),
        decides(
            post("/v1/campaigns/{id}/pause", Campaigns, "Pause a campaign", campaigns::pause)
                .about("No further device is started until it is resumed."),
        ),
        decides(
            post("/v1/campaigns/{id}/resume", Campaigns, "Resume a campaign", campaigns::resume)
                .about("What failed so far does not stop it again."),
        ),
        decides(
            post("/v1/campaigns/{id}/cancel", Campaigns, "Cancel a campaign", campaigns::cancel)
                .about("No further device is started; what is under way comes to its end."),
        ),
        decides(
            post("/v1/campaigns/{id}/retry", Campaigns, "Retry a campaign", campaigns::retry)
                .about("Takes the devices of a finished one again that failed, were rolled back or unreachable."),
        ),
    ]
}

fn groups() -> Vec<Operation> {
    vec![
        get("/v1/groups", View, "List groups", groups::list)
            .answers::<groups::GroupList>(200, "Those that have no devices but those of the token, by name."),
        get("/v1/groups/{name}", View, "Show a group", groups::show)
            .answers::<groups::ShownGroup>(200, "The group.")
            .refuses(&[400, 404]),
        put("/v1/groups/{name}", Campaigns, "Put a group", groups::put)
            .about("Campaigns that were made of it keep their devices.")
            .body::<crate::campaigns::Group>()
            .answers::<groups::ShownGroup>(200, "It takes the place of a former one.")
            .answers::<groups::ShownGroup>(201, "It is new.")
            .refuses(&[409]),
        delete("/v1/groups/{name}", Campaigns, "Remove a group", groups::remove)
            .done("It is gone.")
            .refuses(&[400, 404]),
    ]
}

fn profiles() -> Vec<Operation> {
    vec![
        get("/v1/bootstrap/profiles", View, "List profiles", profiles::list)
            .answers::<profiles::ProfileList>(200, "By name, without what they say."),
        get("/v1/bootstrap/profiles/{name}", View, "Show a profile", profiles::show)
            .query::<profiles::ShowQuery>()
            .answers::<profiles::Profile>(200, "One version, and which others there are.")
            .refuses(&[404]),
        put("/v1/bootstrap/profiles/{name}", Credentials, "Make a version of a profile", profiles::put)
            .about("A version never changes, and devices stay with theirs; what is said already makes no new one.")
            .of_the_fleet()
            .body::<Body>()
            .answers::<profiles::Made>(200, "The newest version says so already.")
            .answers::<profiles::Made>(201, "It is a new version.")
            .refuses(&[422, 507]),
        delete("/v1/bootstrap/profiles/{name}", Credentials, "Remove a profile", profiles::remove)
            .about("With all of its versions; made again, it begins with 1. None that a device follows.")
            .of_the_fleet()
            .done("It is gone.")
            .refuses(&[400, 404, 409]),
        get("/v1/bootstrap/profiles/{name}/preview", View, "Preview a profile", profiles::preview_of)
            .about("What a device would be asked if it followed the profile.")
            .query::<profiles::PreviewOfQuery>()
            .answers::<profiles::Previewed>(200, "The requests in their order, secrets hidden.")
            .refuses(&[404, 409, 422]),
        get("/v1/devices/{endpoint}/bootstrap", View, "Preview a bootstrap", profiles::preview)
            .about("What the device is asked at its next bootstrap, as things stand.")
            .query::<profiles::PreviewQuery>()
            .answers::<profiles::Previewed>(200, "The requests in their order, secrets hidden.")
            .refuses(&[409, 422]),
        get("/v1/devices/{endpoint}/profile", View, "Show the profile of a device", profiles::of_device)
            .answers::<profiles::DeviceProfile>(200, "What it follows, and what it followed last."),
        put("/v1/devices/{endpoint}/profile", Credentials, "Assign a profile", profiles::assign)
            .about("Secret variables stay what they are where they are left out, and are told by nobody.")
            .body::<profiles::AssignBody>()
            .answers::<profiles::DeviceProfile>(200, "The next bootstrap follows it.")
            .refuses(&[409, 422]),
        delete("/v1/devices/{endpoint}/profile", Credentials, "Take a profile away", profiles::unassign)
            .done("Bootstraps are as the server is configured."),
    ]
}

fn models() -> Vec<Operation> {
    vec![
        get("/v1/models", View, "List definitions", models::list)
            .answers::<models::ModelList>(200, "All of them, without their resources."),
        post("/v1/models", Administer, "Add a definition", models::add)
            .about("XML as the OMA registry publishes it.")
            .of_the_fleet()
            .xml()
            .answers::<models::Listed>(200, "It takes the place of a former one.")
            .answers::<models::Listed>(201, "It is new.")
            .refuses(&[409, 422, 507]),
        get("/v1/models/{id}", View, "Show a definition", models::show)
            .query::<models::ShowQuery>()
            .answers::<models::Defined>(200, "The definition with its resources.")
            .refuses(&[404]),
    ]
}

fn tokens() -> Vec<Operation> {
    vec![
        get("/v1/tokens", Administer, "List tokens", tokens::list)
            .answers::<tokens::TokenList>(200, "Those that are for no other devices than the own one."),
        post("/v1/tokens", Administer, "Make a token", tokens::make)
            .about("It is shown in this answer alone. None is made for more devices, or for longer, than the own one.")
            .body::<tokens::MakeToken>()
            .answers::<tokens::MadeToken<'_>>(201, "It opens the interface from now on.")
            .refuses(&[409]),
        get("/v1/tokens/{name}", Administer, "Show a token", tokens::show)
            .answers::<TokenRecord>(200, "The token, without what opens the interface.")
            .refuses(&[400, 404]),
        delete("/v1/tokens/{name}", Administer, "Revoke a token", tokens::revoke)
            .about("What it opened ends.")
            .done("It opens nothing any more.")
            .refuses(&[400, 404, 409]),
    ]
}

fn server() -> Vec<Operation> {
    vec![
        get("/v1/health", View, "Ask whether the server is there", health)
            .open()
            .answers::<Health>(200, "It is."),
        get("/v1/health/ready", View, "Ask whether the server can do its work", ready)
            .about("Its threads answer, its store takes changes, and it does not stop.")
            .open()
            .answers::<Health>(200, "It can.")
            .refuses(&[503]),
        get("/v1/audit", View, "Read the audit log", events::audit)
            .query::<events::AuditQuery>()
            .answers::<events::AuditPage>(200, "Rows, oldest first.")
            .refuses(&[404]),
        post("/v1/backup", Administer, "Make a backup", backup::make)
            .about("A copy of the store, keys sealed, for `lwm2m-server restore`.")
            .of_the_fleet()
            .answers_text("application/octet-stream", "The backup.")
            .refuses(&[503]),
        get("/v1/events", View, "Listen to events", events::stream)
            .about(
                "Everything that happens to the devices of the token, until it ends: from now on, or behind the event that `Last-Event-ID` \
                 names, if it is kept still; what is not is told by the event `lost`.",
            )
            .resumes()
            .query::<events::EventsQuery>()
            .answers_text("text/event-stream", "Events by their names.")
            .refuses(&[404]),
        get("/v1/metrics", View, "Read counters", metrics)
            .of_the_fleet()
            .answers_text("text/plain; version=0.0.4", "Counters in the text format of Prometheus."),
        get("/openapi.json", View, "Read this document", openapi)
            .answers::<super::OpenApiDocument>(200, "The document."),
    ]
}

/// The OpenAPI document of the interface.
#[must_use]
pub fn document() -> OpenApi {
    let mut info = Info::new("lwm2m-server", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Errors are problem details (RFC 9457). `x-permission` is what the role of the token must have; `x-reach` is `device` for what is \
         about the device in the path (404 where the token is not for it), `own` for what is about the devices of the token, `fleet` \
         for what takes a token that is for all devices (else 403)."
            .to_owned(),
    );
    let mut document = OpenApi::new(info, Paths::new());
    document.security = Some(vec![SecurityRequirement::new(BEARER, [] as [&str; 0])]);
    let mut components = Components::new();
    components.add_security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document.components = Some(components);
    for (tag, operations) in table() {
        for operation in operations {
            operation.documented(tag, &mut document);
        }
    }
    document
}

async fn openapi() -> Json<OpenApi> {
    Json(document())
}

/// The routes, without a listener.
pub(super) fn router(api: Api) -> Router {
    let operations = table().into_iter().flat_map(|(_, operations)| operations);
    operations
        .fold(Router::new(), |router, operation| operation.routed(router, &api))
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

//! One operation of the interface: where it is, what it takes and answers, who may, and what does it.
//!
//! Invariant: router and OpenAPI document have every operation from the same value, so that neither has another one, another
//! permission or another path.

use std::collections::BTreeMap;

use axum::handler::Handler;
use axum::middleware;
use axum::routing::{self, MethodRouter};
use axum::{Router, http};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    Content, HttpMethod, KnownFormat, ObjectBuilder, OpenApi, Ref, RefOr, Required, Schema, SchemaFormat,
    Type, extensions::Extensions,
};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::guard::{Access, Reach, admit};
use super::problem::Problem;
use super::requests::{Accepted, Said};
use crate::access::Permission;

/// What the name of the security scheme is.
pub(super) const BEARER: &str = "token";

/// A schema with its name, as it stands among those of the document.
type Named = (String, RefOr<Schema>);

/// An operation.
pub(super) struct Operation {
    method: HttpMethod,
    path: &'static str,
    /// None where no token is asked for.
    access: Option<Access>,
    handler: MethodRouter<Api>,
    described: OperationBuilder,
    answers: BTreeMap<u16, ResponseBuilder>,
    schemas: Vec<Named>,
}

pub(super) fn get<T: 'static>(
    path: &'static str,
    permission: Permission,
    summary: &'static str,
    handler: impl Handler<T, Api>,
) -> Operation {
    Operation::new(HttpMethod::Get, path, permission, summary, routing::get(handler))
}

pub(super) fn put<T: 'static>(
    path: &'static str,
    permission: Permission,
    summary: &'static str,
    handler: impl Handler<T, Api>,
) -> Operation {
    Operation::new(HttpMethod::Put, path, permission, summary, routing::put(handler))
}

pub(super) fn post<T: 'static>(
    path: &'static str,
    permission: Permission,
    summary: &'static str,
    handler: impl Handler<T, Api>,
) -> Operation {
    Operation::new(HttpMethod::Post, path, permission, summary, routing::post(handler))
}

pub(super) fn delete<T: 'static>(
    path: &'static str,
    permission: Permission,
    summary: &'static str,
    handler: impl Handler<T, Api>,
) -> Operation {
    Operation::new(HttpMethod::Delete, path, permission, summary, routing::delete(handler))
}

impl Operation {
    fn new(
        method: HttpMethod,
        path: &'static str,
        permission: Permission,
        summary: &'static str,
        handler: MethodRouter<Api>,
    ) -> Self {
        let reach = if path.contains("{endpoint}") { Reach::Device } else { Reach::Own };
        let mut described = OperationBuilder::new()
            .summary(Some(summary))
            .operation_id(Some(summary.to_lowercase().replace(' ', "-")));
        for name in path.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
            described = described.parameter(
                ParameterBuilder::new()
                    .name(name.trim_start_matches('*'))
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(segment(path, name))),
            );
        }
        let access = Some(Access { permission, reach });
        let (answers, schemas) = (BTreeMap::new(), Vec::new());
        let new = Self { method, path, access, handler, described, answers, schemas };
        let new = new.refuses(&[401, 403, 429, 500, 504]);
        match reach {
            Reach::Device => new.refuses(&[400, 404]),
            Reach::Own | Reach::Fleet => new,
        }
    }

    /// It concerns all devices, or the server itself.
    pub(super) fn of_the_fleet(mut self) -> Self {
        self.access = self.access.map(|access| Access { reach: Reach::Fleet, ..access });
        self
    }

    /// It asks for no token.
    pub(super) fn open(mut self) -> Self {
        self.access = None;
        for status in [401, 403, 429] {
            self.answers.remove(&status);
        }
        self
    }

    /// What else is to be known of it.
    pub(super) fn about(mut self, description: &'static str) -> Self {
        self.described = self.described.description(Some(description));
        self
    }

    /// It takes a query.
    pub(super) fn query<T: IntoParams>(mut self) -> Self {
        self.described = self.described.parameters(Some(T::into_params(|| Some(ParameterIn::Query))));
        self.refuses(&[400])
    }

    /// It takes a body in JSON, without which it is as with an empty object.
    pub(super) fn body<T: ToSchema>(self) -> Self {
        self.takes::<T>("application/json")
    }

    /// It takes a body in XML.
    pub(super) fn xml(self) -> Self {
        self.takes::<String>("application/xml")
    }

    fn takes<T: ToSchema>(mut self, kind: &str) -> Self {
        let content = Content::new(Some(self.schema::<T>()));
        let body = RequestBodyBuilder::new().content(kind, content).build();
        self.described = self.described.request_body(Some(body));
        self.refuses(&[400, 408, 413, 415])
    }

    /// It answers JSON.
    pub(super) fn answers<T: ToSchema>(mut self, status: u16, description: &'static str) -> Self {
        let content = Content::new(Some(self.schema::<T>()));
        self.answer(
            status,
            ResponseBuilder::new().description(description).content("application/json", content),
        )
    }

    /// It answers text of a type.
    pub(super) fn answers_text(self, kind: &str, description: &'static str) -> Self {
        let content = Content::new(Some(ObjectBuilder::new().schema_type(Type::String)));
        self.answer(200, ResponseBuilder::new().description(description).content(kind, content))
    }

    /// It has nothing more to answer than that it is done.
    pub(super) fn done(self, description: &'static str) -> Self {
        self.answer(204, ResponseBuilder::new().description(description))
    }

    /// It asks the device, or is queued for it.
    pub(super) fn asks_the_device(self) -> Self {
        self.query::<Said>()
            .accepts("It waits for the device.")
            .refuses(&[403, 404, 405, 406, 413, 415, 502, 503])
    }

    /// It may wait, and says where it can be looked at.
    pub(super) fn accepts(mut self, description: &'static str) -> Self {
        let content = Content::new(Some(self.schema::<Accepted>()));
        let location = HeaderBuilder::new()
            .description(Some("Where its state is."))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build();
        let answer = ResponseBuilder::new().description(description).content("application/json", content);
        self.answer(202, answer.header("Location", location))
    }

    /// It goes on behind the event that a header names.
    pub(super) fn resumes(mut self) -> Self {
        let header = ParameterBuilder::new()
            .name("Last-Event-ID")
            .parameter_in(ParameterIn::Header)
            .description(Some("The last event that came."))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        self.described = self.described.parameter(header);
        self
    }

    /// It may be refused with a problem of these statuses.
    pub(super) fn refuses(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            let content = Content::new(Some(self.schema::<Problem>()));
            let answer = ResponseBuilder::new()
                .description(reason(*status))
                .content("application/problem+json", content);
            self = self.answer(*status, answer);
        }
        self
    }

    fn answer(mut self, status: u16, answer: ResponseBuilder) -> Self {
        self.answers.insert(status, answer);
        self
    }

    /// Where a schema is found, which is added to those of the document.
    fn schema<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let schema = T::schema();
        let name = T::name();
        T::schemas(&mut self.schemas);
        // A primitive type has no name of its own.
        if matches!(&schema, RefOr::T(Schema::Object(object)) if object.properties.is_empty())
            && name == "String"
        {
            return schema;
        }
        self.schemas.push((name.to_string(), schema));
        Ref::from_schema_name(name).into()
    }

    /// Adds it to a router.
    pub(super) fn routed(self, router: Router<Api>, api: &Api) -> Router<Api> {
        let handler = match self.access {
            None => self.handler,
            Some(access) => {
                let admit = middleware::from_fn_with_state((api.clone(), access), admit);
                self.handler.route_layer(admit)
            }
        };
        router.route(&format!("/api{}", self.path), handler)
    }

    /// Adds it to a document.
    pub(super) fn documented(mut self, tag: &str, document: &mut OpenApi) {
        let mut described = self.described.tag(tag);
        described = match self.access {
            Some(Access { permission, reach }) => described.extensions(Some(Extensions::from_iter([
                ("x-permission", permission.as_str()),
                ("x-reach", reach.as_str()),
            ]))),
            None => described.securities(Some([] as [SecurityRequirement; 0])),
        };
        for (status, answer) in self.answers {
            described = described.response(status.to_string(), answer.build());
        }
        let path = format!("/api{}", self.path).replace("{*", "{");
        document.paths.add_path_operation(path, vec![self.method], described.build());
        let components = document.components.get_or_insert_default();
        for (name, schema) in self.schemas.drain(..) {
            components.schemas.insert(name, schema);
        }
    }
}

/// What may stand in the path for a name.
fn segment(path: &str, name: &str) -> ObjectBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    match name {
        "endpoint" => text
            .description(Some("Endpoint name"))
            .min_length(Some(1))
            .max_length(Some(255))
            .pattern(Some("^[^\\u0000-\\u001f\\u007f-\\u009f]+$")),
        "*path" => text
            .description(Some("Path of an object, instance, resource or resource instance: `3303/0/5700`"))
            .pattern(Some("^[0-9]{1,5}(/[0-9]{1,5}){0,3}$")),
        "id" if path.contains("/models/") => {
            number.description(Some("Object id")).maximum(Some(usize::from(u16::MAX)))
        }
        "id" => number.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))),
        _ if path.contains("/profiles/") => {
            text.description(Some("Name of the profile")).pattern(Some("^[A-Za-z0-9._-]{1,64}$"))
        }
        _ => {
            let what = if path.contains("/groups/") { "Name of the group" } else { "Name of the token" };
            text.description(Some(what)).min_length(Some(1)).max_length(Some(64))
        }
    }
}

/// Why an operation is refused with a status.
fn reason(status: u16) -> &'static str {
    match status {
        400 => "The request is not understood, or the device does not understand it.",
        401 => "There is no token, or it is none of this server, was revoked or has expired.",
        403 => "The token has not the permission, or is not for all devices; or the device refuses.",
        404 => "There is no such device that the token is for, or nothing at that place.",
        405 => "The device does not allow it there.",
        406 => "The device has not that content format.",
        408 => "The body did not arrive in time.",
        409 => "It cannot be done as things stand.",
        413 => "The body is too long.",
        415 => "The content format, or that of the body, is not understood.",
        422 => "The body is no definition, or no profile that can be carried out.",
        429 => "Too much is waiting already, or too many wrong tokens came from the address.",
        500 => "The server failed; its log says more.",
        502 => "The answer of the device cannot be used.",
        503 => "The device has no session, too much is waiting, or the server stops.",
        504 => "It took too long.",
        507 => "There are too many definitions, or too many profiles.",
        _ => http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Refused."),
    }
}

//! `reflog.v2.SchemaService`: the versions of the custom schema.

use tonic::{Request, Response, Status};

use super::{Services, v2};
use crate::error::ServerError;

#[tonic::async_trait]
impl v2::schema_service_server::SchemaService for Services {
    async fn push_schema(
        &self,
        request: Request<v2::PushSchemaRequest>,
    ) -> Result<Response<v2::PushSchemaResponse>, Status> {
        let text = request.into_inner().proto_content;
        let capture = self.0.clone();
        let pushed =
            tokio::task::spawn_blocking(move || capture.push_schema_text("pushed.proto".as_ref(), &text));
        let pushed = pushed.await.map_err(|error| Status::internal(format!("compiling ended: {error}")))?;
        let version = pushed.map_err(|error| match error {
            ServerError::Schema { .. } => Status::invalid_argument(error.to_string()),
            _ => Status::internal(error.to_string()),
        })?;
        Ok(Response::new(v2::PushSchemaResponse { version }))
    }

    async fn list_schemas(
        &self,
        _: Request<v2::ListSchemasRequest>,
    ) -> Result<Response<v2::ListSchemasResponse>, Status> {
        let schemas = self.0.schemas();
        let schemas = schemas.all().iter().map(|schema| v2::Schema {
            version: schema.version(),
            entity_types: schema.types().map(str::to_owned).collect(),
        });
        Ok(Response::new(v2::ListSchemasResponse { schemas: schemas.collect() }))
    }
}

//! The services of `reflog.v1`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{Services, caller_of, client_of, record_of, response_of, v1};

#[tonic::async_trait]
impl v1::ingest_service_server::IngestService for Services {
    async fn ingest(
        &self,
        request: Request<v1::IngestRecord>,
    ) -> Result<Response<v1::IngestResponse>, Status> {
        let caller = caller_of(&request)?;
        let client = client_of(&request, &caller)?;
        let record = record_of(request.into_inner(), client);
        self.0.counted(caller.check_type(&record.entity_type))?;
        let receipt = self.0.capture(record).await?;
        Ok(Response::new(response_of(receipt)))
    }
}

#[tonic::async_trait]
impl v1::health_service_server::HealthService for Services {
    async fn health_check(
        &self,
        _: Request<v1::HealthCheckRequest>,
    ) -> Result<Response<v1::HealthCheckResponse>, Status> {
        // It may wait for the disk.
        let capture = Arc::clone(&self.0);
        let health = tokio::task::spawn_blocking(move || capture.health()).await;
        let (ok, message) = match health.map_err(|error| Status::internal(error.to_string()))? {
            Ok(()) => (true, "events are taken".to_owned()),
            Err(refused) => (false, refused.for_anybody().to_string()),
        };
        Ok(Response::new(v1::HealthCheckResponse { ok, message }))
    }
}

#[tonic::async_trait]
impl v1::proto_service_server::ProtoService for Services {
    async fn get_protos(
        &self,
        request: Request<v1::GetProtosRequest>,
    ) -> Result<Response<v1::GetProtosResponse>, Status> {
        let schemas = self.0.schemas();
        let Some(asked) = request.into_inner().version else {
            let newest = schemas.newest().map(|schema| schema.text().to_owned());
            return Ok(Response::new(v1::GetProtosResponse { proto_content: newest.unwrap_or_default() }));
        };
        let found = asked.parse().ok().and_then(|version| schemas.version(version));
        let found = found.ok_or_else(|| {
            Status::not_found(format!("there is no version {asked:?}; there are {}", schemas.all().len()))
        })?;
        Ok(Response::new(v1::GetProtosResponse { proto_content: found.text().to_owned() }))
    }
}

//! `reflog.v2.EntityService`: what entities are and were.

use serde_json::Value;
use tonic::{Request, Response, Status};

use super::{Services, caller_of, event_of, v2};
use crate::entity::{self, EntityEvent, Instant};
use crate::error::Refused;
use crate::log::EntityLog;

/// Entities of a list where the request does not say how many, and the most.
const LISTED: (u32, u32) = (100, 1000);

#[tonic::async_trait]
impl v2::entity_service_server::EntityService for Services {
    async fn get_entity(
        &self,
        request: Request<v2::GetEntityRequest>,
    ) -> Result<Response<v2::GetEntityResponse>, Status> {
        let caller = caller_of(&request)?;
        let v2::GetEntityRequest { entity_type, entity_id, instant } = request.into_inner();
        self.0.counted(caller.check_type(&entity_type))?;
        let log = self.0.log();
        let found = blocking(move || entity_of(&log, &entity_type, &entity_id, instant_of(instant))).await?;
        let entity =
            found.ok_or_else(|| Status::not_found("there is no event of the entity at this instant"))?;
        Ok(Response::new(v2::GetEntityResponse { entity: Some(entity) }))
    }

    async fn get_history(
        &self,
        request: Request<v2::GetHistoryRequest>,
    ) -> Result<Response<v2::GetHistoryResponse>, Status> {
        let caller = caller_of(&request)?;
        let v2::GetHistoryRequest { entity_type, entity_id, instant } = request.into_inner();
        self.0.counted(caller.check_type(&entity_type))?;
        let log = self.0.log();
        let events = blocking(move || log.history(&entity_type, &entity_id, instant_of(instant))).await?;
        Ok(Response::new(v2::GetHistoryResponse { events: events.into_iter().map(event_of).collect() }))
    }

    async fn list_entities(
        &self,
        request: Request<v2::ListEntitiesRequest>,
    ) -> Result<Response<v2::ListEntitiesResponse>, Status> {
        let caller = caller_of(&request)?;
        let v2::ListEntitiesRequest { entity_type, instant, after_id, id_begins_with, limit } =
            request.into_inner();
        self.0.counted(caller.check_type(&entity_type))?;
        let (usual, most) = LISTED;
        let limit = if limit == 0 { usual } else { limit.min(most) };
        let log = self.0.log();
        let listed = blocking(move || {
            let after = Some(after_id.as_str()).filter(|after| !after.is_empty());
            let ids = log.ids(&entity_type, &id_begins_with, after, limit as usize)?;
            let entities = ids.iter().map(|id| entity_of(&log, &entity_type, id, instant_of(instant)));
            let entities = entities.filter_map(Result::transpose).collect::<Result<Vec<_>, Refused>>()?;
            let next_after_id = ids.last().filter(|_| ids.len() == limit as usize).cloned();
            Ok(v2::ListEntitiesResponse { entities, next_after_id })
        });
        Ok(Response::new(listed.await?))
    }
}

/// Runs what reads the disk where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(read).await {
        Ok(found) => Ok(found?),
        Err(error) => Err(Status::internal(format!("reading ended: {error}"))),
    }
}

fn instant_of(instant: Option<v2::Instant>) -> Instant {
    let instant = instant.unwrap_or_default();
    Instant { as_of_ms: instant.as_of, known_at_ms: instant.known_at }
}

/// `None` where an instant sees none of its events.
fn entity_of(
    log: &EntityLog,
    entity_type: &str,
    entity_id: &str,
    instant: Instant,
) -> Result<Option<v2::Entity>, Refused> {
    let events = log.history(entity_type, entity_id, instant)?;
    let Some(EntityEvent { sequence, event_time_ms, received_at_ms, .. }) = events.last() else {
        return Ok(None);
    };
    let fold = entity::fold(&events);
    Ok(Some(v2::Entity {
        entity_type: entity_type.to_owned(),
        entity_id: entity_id.to_owned(),
        state: fold.state().cloned().map(|state| Value::Object(state).to_string()),
        version: fold.version(),
        sequence: *sequence,
        event_time: *event_time_ms,
        received_at: *received_at_ms,
    }))
}

"""Reads all events by a subscription, and each entity by itself.

Prints `event event_id entity_id sequence payload` in the order of the log, then of each entity `history entity_id sequence…` in the
order in which its events are folded and `entity entity_id version state`. Arguments: the server's address, and the sequence of the last
event.
"""

import sys

import grpc

import capture_v2_pb2 as v2
import capture_v2_pb2_grpc

address, last = sys.argv[1], int(sys.argv[2])
channel = grpc.insecure_channel(address)
entities = capture_v2_pb2_grpc.EntityServiceStub(channel)

following = capture_v2_pb2_grpc.CaptureServiceStub(channel).Subscribe(v2.SubscribeRequest(received_since=0), timeout=60)
for news in following:
    event = news.event
    if news.HasField("event"):
        print("event", event.event_id, event.entity_id, event.sequence, event.payload)
    if max(event.sequence, news.position) >= last:
        following.cancel()
        break

listed = entities.ListEntities(v2.ListEntitiesRequest(entity_type="Sensor", limit=1000), timeout=10).entities
for entity in listed:
    asked = v2.GetHistoryRequest(entity_type=entity.entity_type, entity_id=entity.entity_id)
    events = entities.GetHistory(asked, timeout=10).events
    print("history", entity.entity_id, *(event.sequence for event in events))
    asked = v2.GetEntityRequest(entity_type=entity.entity_type, entity_id=entity.entity_id)
    found = entities.GetEntity(asked, timeout=10).entity
    assert found == entity, (found, entity)
    print("entity", found.entity_id, found.version, found.state)

"""Sends events with ids of their own, one by one and as a batch, and prints what each answer says: id, sequence, whether it is a duplicate.

Argument: the server's address. Run again, it sends the same.
"""

import sys

import grpc

import capture_pb2 as v1
import capture_pb2_grpc
import capture_v2_pb2 as v2
import capture_v2_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1])
ingest = capture_pb2_grpc.IngestServiceStub(channel).Ingest
ingest_batch = capture_v2_pb2_grpc.CaptureServiceStub(channel).IngestBatch


def visit(number, entity_id="user_1"):
    return v1.IngestRecord(
        entity_type="User",
        entity_id=entity_id,
        operation=v1.OPERATION_UPDATE,
        payload=b'{"visits": %d}' % number,
        event_id=f"visit-{number}",
    )


receipts = [ingest(visit(number), timeout=10) for number in range(10)]
# Some of these were there before, and one comes twice.
numbers = [*range(5, 20), 19]
batch = v2.IngestBatchRequest(records=map(visit, numbers))
receipts += ingest_batch(batch, timeout=10).receipts
for receipt in receipts:
    assert receipt.ok, receipt
    print(receipt.event_id, receipt.sequence, int(receipt.duplicate))

try:
    ingest(visit(3, entity_id="user_2"), timeout=10)
    raise AssertionError("an id was taken for two entities")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.ALREADY_EXISTS, error

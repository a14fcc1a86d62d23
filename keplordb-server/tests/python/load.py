"""Clients that send numbered events of their own entities, and send again whatever is not acknowledged, until the input ends.

Every acknowledgment is printed as it comes: `event_id entity_id number sequence duplicate tries`. Arguments: the server's address, a
seed, and how many clients there are.
"""

import random
import sys
import threading
import time

import grpc

import capture_pb2 as v1
import capture_pb2_grpc
import capture_v2_pb2 as v2
import capture_v2_pb2_grpc

ENTITIES = 3
BATCH_MAX = 20
# The share of requests that send once more what was acknowledged before.
AGAIN = 0.05
# So that a client is back soon after the server is.
RECONNECT = [
    (f"grpc.{bound}_reconnect_backoff_ms", ms) for bound, ms in [("initial", 20), ("min", 20), ("max", 100)]
] + [("grpc.use_local_subchannel_pool", 1)]

address, seed, clients = sys.argv[1], sys.argv[2], int(sys.argv[3])
ending = threading.Event()
printing = threading.Lock()


def sender(number, channel):
    """Of the clients every other one sends batches."""
    if number % 2 == 0:
        ingest = capture_pb2_grpc.IngestServiceStub(channel).Ingest
        return 1, lambda records: [ingest(records[0], timeout=30)]
    ingest_batch = capture_v2_pb2_grpc.CaptureServiceStub(channel).IngestBatch
    return BATCH_MAX, lambda records: ingest_batch(v2.IngestBatchRequest(records=records), timeout=30).receipts


def until_acknowledged(send, records):
    tries = 1
    while True:
        try:
            return send(records), tries
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            tries += 1
            time.sleep(0.01)


def run(number):
    choice = random.Random(f"{seed}-{number}")
    channel = grpc.insecure_channel(address, RECONNECT)
    most, send = sender(number, channel)
    numbers = [0] * ENTITIES
    acknowledged = []

    def event():
        entity = choice.randrange(ENTITIES)
        place, numbers[entity] = numbers[entity], numbers[entity] + 1
        entity_id = f"sensor-{number}-{entity}"
        return v1.IngestRecord(
            entity_type="Sensor",
            entity_id=entity_id,
            operation=v1.OPERATION_UPDATE if place else v1.OPERATION_CREATE,
            payload=b'{"number": %d}' % place,
            event_id=f"{entity_id}/{place}",
        )

    while not ending.is_set():
        if acknowledged and choice.random() < AGAIN:
            records = [choice.choice(acknowledged)]
        else:
            records = [event() for _ in range(choice.randint(1, most))]
        receipts, tries = until_acknowledged(send, records)
        assert len(receipts) == len(records)
        acknowledged += records
        lines = [
            f"{receipt.event_id} {record.entity_id} {record.event_id.split('/')[1]} "
            f"{receipt.sequence} {int(receipt.duplicate)} {tries}\n"
            for record, receipt in zip(records, receipts)
        ]
        with printing:
            sys.stdout.write("".join(lines))
            sys.stdout.flush()


failed = []


def run_or_fail(number):
    try:
        run(number)
    except BaseException as error:
        failed.append(error)
        # Whoever reads the output sees that it ends.
        ending.set()


threads = [threading.Thread(target=run_or_fail, args=[number]) for number in range(clients)]
for thread in threads:
    thread.start()
threading.Thread(target=lambda: (sys.stdin.read(), ending.set()), daemon=True).start()
for thread in threads:
    thread.join()
if failed:
    raise failed[0]

#!/usr/bin/env python3
"""Publishes on one node and subscribes on another, knowing no .proto file: everything is asked of the nodes by reflection.

    reflection_client.py ADDR ADDR

Exit 0: both reflection protocols answered and the message came. Needs grpcio and grpcio-reflection.
"""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2

TIMEOUT_S = 10
SYMBOLS = ["waxwing.v1.PubSub", "waxwing.v1.Presence", "waxwing.v1.Session", "waxwing.v1.Admin", "grpc.health.v1.Health"]


class Reflection:
    """Of one node. v1 and v1alpha have the same messages and differ in the service's name."""

    def __init__(self, channel, version):
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        self.call = channel.stream_stream(
            method,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

    def ask(self, **question):
        request = reflection_pb2.ServerReflectionRequest(**question)
        (answer,) = self.call(iter([request]), timeout=TIMEOUT_S)
        if answer.HasField("error_response"):
            raise SystemExit(f"reflection: {question}: {answer.error_response.error_message}")
        return answer

    def services(self):
        answer = self.ask(list_services="")
        return sorted(service.name for service in answer.list_services_response.service)

    def files(self, symbol):
        answer = self.ask(file_containing_symbol=symbol)
        files = answer.file_descriptor_response.file_descriptor_proto
        return [descriptor_pb2.FileDescriptorProto.FromString(file) for file in files]


def pool_of(reflection):
    """Everything that the symbols need. Servers may send a file's imports along or wait to be asked."""
    files = {}
    for symbol in SYMBOLS:
        files.update((file.name, file) for file in reflection.files(symbol))
    wanted = [name for file in files.values() for name in file.dependency]
    while wanted:
        name = wanted.pop()
        if name not in files:
            answer = reflection.ask(file_by_filename=name)
            for raw in answer.file_descriptor_response.file_descriptor_proto:
                file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                files[file.name] = file
                wanted.extend(file.dependency)
    pool = descriptor_pool.DescriptorPool()
    added = set()

    def add(name):
        if name not in added:
            added.add(name)
            for dependency in files[name].dependency:
                add(dependency)
            pool.Add(files[name])

    for name in files:
        add(name)
    return pool


def method(channel, pool, service, name):
    descriptor = pool.FindServiceByName(service).FindMethodByName(name)
    request = message_factory.GetMessageClass(descriptor.input_type)
    response = message_factory.GetMessageClass(descriptor.output_type)
    kind = channel.unary_stream if descriptor.server_streaming else channel.unary_unary
    call = kind(
        f"/{service}/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    return call, request


def events(stream):
    for frame in stream:
        yield from frame.events


def main(publish_at, subscribe_at):
    publisher, subscriber = grpc.insecure_channel(publish_at), grpc.insecure_channel(subscribe_at)
    for version in ["v1alpha", "v1"]:
        services = Reflection(publisher, version).services()
        missing = [symbol for symbol in SYMBOLS if symbol not in services]
        if missing:
            raise SystemExit(f"reflection {version}: {missing} not among {services}")
        print(f"reflection {version}: {len(services)} services")

    pool = pool_of(Reflection(subscriber, "v1"))
    check, health = method(subscriber, pool, "grpc.health.v1.Health", "Check")
    answer = check(health(), timeout=TIMEOUT_S)
    if answer.status != 1:
        raise SystemExit(f"health: not serving ({answer.status})")

    topic, text = "reflection/smoke", "told by reflection"
    subscribe, wanted = method(subscriber, pool, "waxwing.v1.PubSub", "Subscribe")
    publish, message = method(publisher, pool, "waxwing.v1.PubSub", "Publish")
    stream = subscribe(wanted(topics=[topic]), timeout=TIMEOUT_S)
    sent = False
    for event in events(stream):
        kind = event.WhichOneof("kind")
        if kind == "reply" and not sent:
            if event.reply.error.code:
                raise SystemExit(f"subscribe: {event.reply.error.message}")
            sent = True
            receipt = publish(message(topic=topic, text=text), timeout=TIMEOUT_S)
            print(f"published {receipt.id} at {publish_at}")
        elif kind == "batch":
            texts = [received.payload.decode() for received in event.batch.messages]
            if event.batch.topic != topic or texts != [text]:
                raise SystemExit(f"received {event.batch.topic}: {texts}")
            print(f"received it at {subscribe_at}")
            stream.cancel()
            return
    raise SystemExit("the subscription ended before the message came")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    main(*sys.argv[1:])

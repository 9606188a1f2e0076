"""rabbitmq_client.py PORT SECONDS: tasks/s through a durable queue, persistent messages, publisher
confirms, 64 unconfirmed at a time, one consumer that acknowledges. Needs python3-pika.
"""

import sys
import time

import pika

BATCH = 64
BODY = b"x" * 64


class Client:
    def __init__(self, port, seconds):
        self.seconds = seconds
        self.sent = self.confirmed = self.taken = 0
        self.begun = self.ended = 0.0
        self.channel = None
        self.connection = pika.SelectConnection(
            pika.ConnectionParameters("127.0.0.1", port), on_open_callback=self.opened)
        self.connection.ioloop.start()

    def opened(self, connection):
        connection.channel(on_open_callback=self.channel_opened)

    def channel_opened(self, channel):
        self.channel = channel
        channel.basic_qos(prefetch_count=4 * BATCH)
        channel.queue_declare("tasks", durable=True, callback=self.declared)

    def declared(self, _):
        self.channel.confirm_delivery(self.confirm)
        self.channel.basic_consume("tasks", self.take)
        self.begun = time.monotonic()
        self.publish()

    def publish(self):
        durable = pika.BasicProperties(delivery_mode=2)
        for _ in range(BATCH):
            self.channel.basic_publish("", "tasks", BODY, durable)
        self.sent += BATCH

    def confirm(self, frame):
        self.confirmed = frame.method.delivery_tag
        if self.confirmed == self.sent and time.monotonic() - self.begun < self.seconds:
            self.publish()

    def take(self, channel, method, _properties, _body):
        self.taken += 1
        if self.taken % BATCH == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if self.taken == self.sent and time.monotonic() - self.begun >= self.seconds:
            self.ended = time.monotonic()
            self.connection.ioloop.stop()


def main():
    client = Client(int(sys.argv[1]), int(sys.argv[2]))
    print(client.taken / (client.ended - client.begun))


if __name__ == "__main__":
    main()

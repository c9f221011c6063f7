"""Very many clients on one thread: each keeps its connection, asks, waits for the whole reply, and asks again."""
import heapq
import select
import socket
import time

SECONDS_MAX = 120               # without any reply: the daemon hangs


class Reply:
    """A whole reply, and how long it took from the request's first byte."""

    def __init__(self, content, head_bytes, seconds):
        lines = content[:head_bytes].decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.body = content[head_bytes:]
        self.seconds = seconds
        if "content-length" not in self.headers:
            self.body = join_chunks(self.body)


class Client:
    def __init__(self, port, index):
        self.index = index
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.content = b""
        self.began = None       # None: it does not wait for a reply

    def ask(self, request):
        assert self.began is None and self.content == b"", f"client {self.index} was answered twice: {self.content!r}"
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def take(self):
        """The reply, once it is there to its end."""
        part = self.socket.recv(1 << 20)
        assert part, f"client {self.index} was left without the rest of {self.content!r}"
        assert self.began is not None, f"client {self.index} did not ask for {part!r}"
        self.content += part
        length = reply_bytes(self.content)
        if length is None or len(self.content) < length:
            return None
        reply = Reply(self.content[:length], self.content.find(b"\r\n\r\n") + 4, time.perf_counter() - self.began)
        self.content, self.began = self.content[length:], None
        return reply


def reply_bytes(content):
    """How many bytes the first reply in `content` has, None when that cannot be told yet."""
    head_bytes = content.find(b"\r\n\r\n") + 4
    if head_bytes < 4:
        return None
    at = content.lower().find(b"\r\ncontent-length:", 0, head_bytes)
    if at >= 0:
        return head_bytes + int(content[at + 17:content.index(b"\r\n", at + 2)])
    end = content.find(b"\r\n0\r\n\r\n", head_bytes - 2)
    return None if end < 0 else end + 7


def join_chunks(content):
    at, parts = 0, []
    while (length := int(content[at:content.index(b"\r\n", at)], 16)) > 0:
        at = content.index(b"\r\n", at) + 2
        parts.append(content[at:at + length])
        at += length + 2
    return b"".join(parts)


def post(path, content, headers=""):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(content)}\r\n\r\n{content}").encode()


def run(port, count, next_request, on_reply, start_seconds=0.0):
    """Lets `count` clients, numbered from 0, ask for next_request(index), bytes, until that is None. on_reply(index,
    reply) says after how many seconds the client asks again. They begin evenly within `start_seconds`. At the end each
    asks for /health/live: a second reply to something would come before."""
    clients = [Client(port, index) for index in range(count)]
    by_descriptor = {client.socket.fileno(): client for client in clients}
    start = time.perf_counter()
    waiting = [(start + start_seconds * index / count, index) for index in range(count)]    # when who asks next: a heap
    asking = 0
    with select.epoll() as poller:
        for descriptor in by_descriptor:
            poller.register(descriptor, select.EPOLLIN)
        while waiting or asking > 0:
            now = time.perf_counter()
            while waiting and waiting[0][0] <= now:
                index = heapq.heappop(waiting)[1]
                request = next_request(index)
                if request is not None:
                    clients[index].ask(request)
                    asking += 1
            pause = min(SECONDS_MAX, max(0.0, waiting[0][0] - time.perf_counter())) if waiting else SECONDS_MAX
            events = poller.poll(pause) if waiting or asking > 0 else []
            assert events or waiting or asking == 0, f"{asking} clients wait for a reply"
            for descriptor, _ in events:
                client = by_descriptor[descriptor]
                reply = client.take()
                if reply is not None:
                    asking -= 1
                    heapq.heappush(waiting, (time.perf_counter() + on_reply(client.index, reply), client.index))
    for client in clients:
        client.ask(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while (reply := client.take()) is None:
            pass
        assert (reply.status, reply.body.strip(), client.content) == (200, b'{"status":"live"}', b""), reply.body
        client.socket.close()

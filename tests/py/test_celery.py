"""Real Celery with the Redis port as its broker and its result backend."""

import unittest

from celery import Celery, chord, group
from celery.contrib.testing.worker import start_worker

from server import Server

PATIENCE_S = 30


class OnTheRedisPort(unittest.TestCase):
    def setUp(self):
        server = Server()
        self.addCleanup(server.stop)
        self.app = Celery("shop", broker=f"{server.url}/0", backend=f"{server.url}/1")
        self.app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
        self.addCleanup(self.app.close)

    def test_tasks_retries_groups_and_chords(self):
        @self.app.task(name="add")
        def add(one, other):
            return one + other

        @self.app.task(name="total")
        def total(numbers):
            return sum(numbers)

        @self.app.task(name="at_the_second_try", bind=True, max_retries=2)
        def at_the_second_try(task):
            if task.request.retries == 0:
                raise task.retry(countdown=0)
            return "done"

        with start_worker(self.app, pool="solo", perform_ping_check=False, shutdown_timeout=PATIENCE_S):
            self.assertEqual(add.delay(2, 3).get(timeout=PATIENCE_S), 5)
            self.assertEqual(at_the_second_try.delay().get(timeout=PATIENCE_S), "done")
            doubles = group(add.s(n, n) for n in range(5))
            self.assertEqual(doubles.apply_async().get(timeout=PATIENCE_S), [0, 2, 4, 6, 8])
            summed = chord([add.s(n, n) for n in range(5)], total.s())
            self.assertEqual(summed.apply_async().get(timeout=PATIENCE_S), 20)


if __name__ == "__main__":
    unittest.main()

"""Stock redis-py on the Redis port: the patterns that applications and Celery use."""

import threading
import unittest

import redis

from server import Server


class RedisPy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def client(self, **options):
        client = redis.Redis.from_url(self.server.url, decode_responses=True, **options)
        self.addCleanup(client.close)
        return client

    def setUp(self):
        self.client().flushall()

    def test_every_type_in_both_protocols(self):
        for protocol in (2, 3):
            with self.subTest(protocol=protocol):
                client = self.client(protocol=protocol)
                client.flushall()
                self.assertTrue(client.set("k", "v", ex=100, nx=True))
                self.assertIsNone(client.set("k", "w", nx=True))
                self.assertEqual(client.hset("h", mapping={"a": 1, "b": 2}), 2)
                self.assertEqual(client.hgetall("h"), {"a": "1", "b": "2"})
                self.assertEqual(client.sadd("s", "x", "y"), 2)
                self.assertEqual(client.smembers("s"), {"x", "y"})
                self.assertEqual(client.zadd("z", {"m": 1.5, "n": 2}), 2)
                scores = client.zrange("z", 0, -1, withscores=True)
                self.assertEqual([tuple(pair) for pair in scores], [("m", 1.5), ("n", 2.0)])
                self.assertEqual(client.rpush("l", 1, 2, 3), 3)
                self.assertEqual(client.lrange("l", 0, -1), ["1", "2", "3"])
                self.assertEqual(sorted(client.scan_iter()), ["h", "k", "l", "s", "z"])
                self.assertGreaterEqual(client.info()["redis_version"], "7.0")

    def test_its_lock(self):
        client = self.client()
        lock = client.lock("resource", timeout=30)
        self.assertTrue(lock.acquire(blocking=False))
        self.assertFalse(client.lock("resource", timeout=30).acquire(blocking=False))
        self.assertTrue(lock.extend(30))
        self.assertTrue(lock.reacquire())
        lock.release()
        self.assertIsNone(client.get("resource"))
        with self.assertRaises(redis.exceptions.LockError):
            lock.release()

    def test_a_pipeline_with_a_watched_key(self):
        client = self.client()
        client.set("balance", 10)

        def spend(pipeline):
            balance = int(pipeline.get("balance"))
            pipeline.multi()
            pipeline.set("balance", balance - 3)

        client.transaction(spend, "balance")
        self.assertEqual(client.get("balance"), "7")
        with client.pipeline() as pipeline:
            pipeline.watch("balance")
            client.set("balance", 0)
            pipeline.multi()
            pipeline.incr("balance")
            with self.assertRaises(redis.exceptions.WatchError):
                pipeline.execute()

    def test_results_as_celery_keeps_them(self):
        """The backend subscribes to the task's key, and the worker sets and publishes in one go."""
        client = self.client()
        key = "celery-task-meta-1"
        with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(key)
            self.assertIsNone(pubsub.get_message(timeout=10))
            with client.pipeline(transaction=True) as pipeline:
                pipeline.setex(key, 86_400, '{"status": "SUCCESS"}')
                pipeline.publish(key, '{"status": "SUCCESS"}')
                pipeline.execute()
            message = None
            while message is None:
                message = pubsub.get_message(timeout=10)
            self.assertEqual(message["data"], '{"status": "SUCCESS"}')
        self.assertEqual(client.mget([key, "celery-task-meta-2"]), ['{"status": "SUCCESS"}', None])

    def test_a_queue_as_kombu_works_it(self):
        client = self.client()
        taken = []
        waiting = threading.Thread(
            target=lambda: taken.append(self.client().brpop(["celery", "celery\x06\x163"], timeout=20))
        )
        waiting.start()
        client.lpush("celery", '{"body": "e30="}')
        waiting.join()
        self.assertEqual(taken, [("celery", '{"body": "e30="}')])
        with client.pipeline() as pipeline:
            pipeline.zadd("unacked_index", {"tag": 1_700_000_000.5})
            pipeline.hset("unacked", "tag", '["message"]')
            pipeline.execute()
        self.assertEqual(client.zrevrangebyscore("unacked_index", "+inf", 0, start=0, num=10), ["tag"])
        with client.pipeline() as pipeline:
            pipeline.hget("unacked", "tag").zrem("unacked_index", "tag").hdel("unacked", "tag")
            self.assertEqual(pipeline.execute(), ['["message"]', 1, 1])

    def test_errors_are_redis_errors(self):
        client = self.client()
        client.lpush("l", 1)
        with self.assertRaisesRegex(redis.exceptions.ResponseError, "^WRONGTYPE "):
            client.get("l")
        with self.assertRaises(redis.exceptions.NoScriptError):
            client.evalsha("0" * 40, 0)


if __name__ == "__main__":
    unittest.main()

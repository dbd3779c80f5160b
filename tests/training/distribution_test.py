"""Several replicas: what they are told, and that they train as one."""

import contextlib
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import yaml
from absl.testing import absltest, parameterized

from kyolo.config import ConfigError, TrainConfig
from kyolo.data import Share, write_shapes
from kyolo.errors import InputError
from kyolo.training import load_checkpoint
from kyolo.training.cluster import Cluster, join, read_cluster
from kyolo.training.distribution import Distribution
from tests.test_case import ROOT, TestCase

CONFIG = ROOT / "configs" / "quickstart.yaml"
HOSTS = '"cluster": {"worker": ["a:1", "b:2"]}'
# Ten steps of four images, so small that rounding does not grow; some gradients are clipped and some are not.
SETTINGS = (
    "model.levels=[P4, P5]", "data.image_size=64", "train.epochs=2", "train.batch_size=4", "train.precision=float32",
    "train.schedule.warmup_epochs=0", "train.checkpoint_every=3", "train.evaluate_every=2", "train.tensorboard=false",
    "train.optimizer.kind=sgd", "train.optimizer.learning_rate=0.0002", "train.optimizer.clip_norm=3",
)  # fmt: skip
# Without oneDNN, which chooses among its kernels by the batch: after ten steps that alone makes 3e-4.
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}


class ClusterTest(parameterized.TestCase):
    def test_without(self):
        self.assertIsNone(read_cluster({}))
        self.assertIsNone(read_cluster({"TF_CONFIG": ""}))

    @parameterized.parameters(("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2))
    def test_chief_apart(self, job, index, number):
        task = f'"task": {{"type": "{job}", "index": {index}}}'
        cluster = read_cluster({"TF_CONFIG": f'{{"cluster": {{"worker": ["b:2", "c:3"], "chief": ["a:1"]}}, {task}}}'})
        self.assertEqual(cluster, Cluster(("a:1", "b:2", "c:3"), number))

    def test_worker(self):
        cluster = read_cluster({"TF_CONFIG": f'{{{HOSTS}, "task": {{"type": "worker", "index": 1}}}}'})
        self.assertEqual(cluster, Cluster(("a:1", "b:2"), 1))

    @parameterized.parameters(
        "no json",
        "[]",
        "{}",
        f"{{{HOSTS}}}",
        f'{{{HOSTS}, "task": {{"type": "worker", "index": 2}}}}',
        f'{{{HOSTS}, "task": {{"type": "worker", "index": "0"}}}}',
        f'{{{HOSTS}, "task": {{"type": "ps", "index": 0}}}}',
        '{"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a", "b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:0"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:99999"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"], "chief": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 0}}',
    )
    def test_malformed(self, text):
        with self.assertRaisesRegex(InputError, "TF_CONFIG: expected JSON such as"):
            read_cluster({"TF_CONFIG": text})


class DistributionTest(TestCase):
    def distribution(self, replicas, cluster=None):
        strategy = types.SimpleNamespace(
            num_replicas_in_sync=replicas, distribute_datasets_from_function=lambda make: make(None)
        )
        return Distribution(strategy, cluster)

    def test_share_of_a_worker(self):
        # Two machines with two GPUs each: the second reads the third and the fourth quarter.
        distribution = self.distribution(4, Cluster(("a:1", "b:2"), 1))
        self.assertEqual(distribution.distribute(lambda share: share), Share(replicas=4, first=2, count=2))
        self.assertFalse(distribution.is_chief)
        self.assertEqual(self.distribution(2).distribute(lambda share: share), Share(replicas=2, first=0, count=2))
        self.assertEqual(Distribution().distribute(lambda share: share), Share())

    def test_each_machine_joins_with_all_its_gpus(self):
        with (
            mock.patch.object(tf.config, "get_visible_devices", {"GPU": ["GPU:0", "GPU:1"]}.get),
            mock.patch.object(tf.distribute, "MultiWorkerMirroredStrategy") as strategy,
            contextlib.redirect_stderr(io.StringIO()) as said,
        ):
            join(Cluster(("a:1", "b:2"), 1))
        resolver = strategy.call_args.kwargs["cluster_resolver"]
        self.assertEqual(resolver.num_accelerators(), {"GPU": 2})
        self.assertEqual(resolver.cluster_spec().as_dict(), {"worker": ["a:1", "b:2"]})
        self.assertEqual((resolver.task_type, resolver.task_id, resolver.rpc_layer), ("worker", 1, "grpc"))
        self.assertEqual(said.getvalue(), "worker 1 of 2 waits for a:1\n")

    def test_refuses_settings(self):
        with self.assertRaisesRegex(
            ConfigError, "train.batch_size: expected a multiple of the 3 replicas, received 16"
        ):
            self.distribution(3).check(TrainConfig(batch_size=16))
        with self.assertRaisesRegex(ConfigError, "train.jit_compile"):
            self.distribution(2).check(TrainConfig(jit_compile=True))
        self.distribution(2).check(TrainConfig(batch_size=16))

    def test_bad_input_is_one_line(self):
        write_shapes(self.folder / "set", train=2, val=1, image_size=64)
        command = ["train", "--config", CONFIG, "--data", self.folder / "set", "--output", self.folder / "run"]
        self.assert_bad_input([*command, "--set", "train.distribute=mirrored"], "train.distribute", "CPU:0")
        with mock.patch.dict(os.environ, TF_CONFIG="no json"):
            self.assert_bad_input(command, "TF_CONFIG", "no json")
        with mock.patch.dict(os.environ, TF_CONFIG=f'{{{HOSTS}, "task": {{"type": "worker", "index": 0}}}}'):
            self.assert_bad_input([*command, "--set", "train.distribute=mirrored"], "train.distribute", "TF_CONFIG")
        self.assertFalse((self.folder / "run").exists())


class KubernetesTest(absltest.TestCase):
    def test_every_pod_finds_its_place(self):
        service, job = yaml.safe_load_all((ROOT / "examples/kubernetes.yaml").read_text(encoding="utf-8"))
        name, spec = job["metadata"]["name"], job["spec"]
        self.assertEqual((service["kind"], service["spec"]["clusterIP"]), ("Service", "None"))
        self.assertEqual(service["spec"]["selector"], {"job-name": name})
        self.assertEqual(
            (job["kind"], spec["completionMode"], spec["completions"]), ("Job", "Indexed", spec["parallelism"])
        )
        pod = spec["template"]["spec"]
        self.assertEqual(pod["subdomain"], service["metadata"]["name"])
        (container,) = pod["containers"]
        variables = {variable["name"]: variable["value"] for variable in container["env"]}
        self.assertEqual(variables["WORKERS"], str(spec["completions"]))
        (line,) = re.findall(r"^export TF_CONFIG=.*(?:\n .*)*", container["args"][0], re.MULTILINE)
        script = "".join(container["args"][0].partition("exec kyolo")[0].partition("\nif ")[0])
        self.assertIn(line, script)
        hosts = tuple(f"{name}-{number}.{service['metadata']['name']}:2222" for number in range(spec["completions"]))
        for index in range(spec["completions"]):
            done = subprocess.run(
                ["sh", "-ec", f'{script}\nprintf %s "$TF_CONFIG"'],
                env={**os.environ, **variables, "JOB_COMPLETION_INDEX": str(index)},
                capture_output=True,
                text=True,
                check=True,
            )
            self.assertEqual(read_cluster({"TF_CONFIG": done.stdout}), Cluster(hosts, index))


def free_ports(count):
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.mark.slow
class JoinTest(TestCase):
    """What happens before all workers are there."""

    def start(self, *addresses):
        tf_config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
        write_shapes(self.folder / "set", train=2, val=1, image_size=64)
        command = ["--config", CONFIG, "--data", self.folder / "set", "--output", self.folder / "run"]
        process = subprocess.Popen(
            [sys.executable, ROOT / "tools/train.py", *command],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(tf_config)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        return process

    def test_ctrl_c_ends_the_wait(self):
        ports = free_ports(2)
        process = self.start(*(f"127.0.0.1:{port}" for port in ports))
        for line in process.stderr:
            if line.startswith("worker 0 of 2 waits for"):
                break
        time.sleep(3)  # into TensorFlow, on which Python's handler would wait; on a slow machine Python still runs
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        self.assertIn(process.returncode, (-signal.SIGINT, 130))
        self.assertFalse((self.folder / "run").exists())

    def test_an_address_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            process = self.start(address, "127.0.0.1:1")
            message = process.communicate(timeout=60)[1].splitlines()[-1]
        self.assertEqual(process.returncode, 2, message)
        self.assertIn(f"cluster.worker.0 a port that is free, received {address}; ", message)


@pytest.mark.slow
class TrainTest(tf.test.TestCase):
    """Ten steps on two replicas end as those of one with the whole batch.

    To less than 1 % of what the steps move a weight; 5e-7 was seen. If each replica clips for itself, it is 3e-3.
    """

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        write_shapes(cls.folder / "set", train=20, val=2, image_size=64)
        script = [sys.executable, ROOT / "tests/training/worker.py", cls.folder / "one.npz", "0"]
        command = [*script, "train", "--output", cls.folder / "one", *cls.new_run()]
        subprocess.run(command, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.DEVNULL, check=True)
        cls.expected = load_checkpoint(cls.folder / "one/weights/last.npz")

    def start(self, name, *arguments, die_after=0, tf_config=None):
        environment = {**os.environ, **ENVIRONMENT}
        if tf_config is not None:
            environment["TF_CONFIG"] = json.dumps(tf_config)
        script = [sys.executable, ROOT / "tests/training/worker.py", self.folder / f"{name}.npz", str(die_after)]
        command = [*script, "train", "--output", self.folder / name, *arguments]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        return process

    def start_pair(self, names, *arguments, die_after=0):
        hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
        configs = [{"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}} for index in range(2)]
        return [
            self.start(name, *arguments, die_after=die_after * index, tf_config=config)
            for index, (name, config) in enumerate(zip(names, configs, strict=True))
        ]

    def wait_for(self, process):
        _, stderr = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 0, stderr)

    @classmethod
    def new_run(cls):
        settings = [argument for text in SETTINGS for argument in ("--set", text)]
        return ["--config", CONFIG, "--data", cls.folder / "set", *settings]

    def check_run(self, name):
        """The run's last checkpoint and its history are those of one replica."""
        found = load_checkpoint(self.folder / name / "weights/last.npz")
        self.assertEqual(set(found.arrays), set(self.expected.arrays))
        for group in ("model", "ema", "optimizer"):
            for key, value in self.expected.group(group).items():
                self.assertAllClose(found.group(group)[key], value, rtol=0, atol=5e-6, msg=key)
        self.assertLen(found.state["history"], 2)
        for row, expected in zip(found.state["history"], self.expected.state["history"], strict=True):
            for key in ("loss", "box", "classification", "dfl"):
                self.assertAllClose(row[key], expected[key], rtol=1e-4, msg=key)

    def check_copies(self, *names):
        """All replicas hold the same weights, to the last bit."""
        files = [np.load(self.folder / f"{name}.npz") for name in names]
        for key in files[0].files:
            copies = np.concatenate([file[key] for file in files])
            self.assertLen(copies, 2)
            self.assertAllEqual(copies[0], copies[1], msg=key)

    def test_two_devices_of_one_machine(self):
        self.wait_for(self.start("mirrored", *self.new_run(), "--set", "train.distribute=mirrored"))
        self.check_run("mirrored")
        self.check_copies("mirrored")

    def test_two_machines_of_which_one_dies(self):
        chief, worker = self.start_pair(("chief", "worker"), *self.new_run(), die_after=7)
        worker.wait()
        self.check_ends_too(chief, lost=1)
        self.assertEqual(load_checkpoint(self.folder / "chief/weights/last.npz").state["step"], 6)
        for process in self.start_pair(("chief", "worker"), "--resume"):
            self.wait_for(process)
        self.check_run("chief")
        self.check_copies("chief", "worker")
        self.assertFalse((self.folder / "worker").exists(), "only the chief writes")

    def check_ends_too(self, process, lost):
        """The other process says in a minute which worker is lost."""
        began = time.monotonic()
        message = process.communicate(timeout=300)[1].splitlines()[-1]
        self.assertLess(time.monotonic() - began, 60)
        self.assertEqual(process.returncode, 1)
        self.assertRegex(
            message, rf"error: Lost worker {lost} \(127\.0\.0\.1:\d+\).*--resume \(TensorFlow: \w+Error: .+\)$"
        )

    def wait_for_a_checkpoint(self, process, name):
        while process.poll() is None and not (self.folder / name / "weights/last.npz").exists():
            time.sleep(0.1)

    def test_the_chief_is_killed(self):
        chief, worker = self.start_pair(("killed", "worker"), *self.new_run(), "--set", "train.epochs=500")
        self.wait_for_a_checkpoint(chief, "killed")
        chief.kill()
        self.check_ends_too(worker, lost=0)

    def test_sigterm_ends_a_run(self):
        (port,) = free_ports(1)
        tf_config = {"cluster": {"worker": [f"127.0.0.1:{port}"]}, "task": {"type": "worker", "index": 0}}
        process = self.start("ended", *self.new_run(), "--set", "train.epochs=500", tf_config=tf_config)
        self.wait_for_a_checkpoint(process, "ended")
        process.terminate()
        message = process.communicate()[1].splitlines()[-1]
        self.assertEqual(process.returncode, 130)
        self.assertRegex(message, "interrupted; continue with kyolo train --resume --output .*ended$")


if __name__ == "__main__":
    tf.test.main()

"""tuning/container, as far as it can be tried without a container engine: the seccomp profile is loaded as an engine does (libseccomp), and
evergate runs under it; the compose file and the recipe name what exists.

    python3 tests/container.py EVERGATE         # the program to run
"""
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import yaml

PLACE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tuning", "container")
ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
MASKED_EQ = 7


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("datum_a", ctypes.c_uint64), ("datum_b", ctypes.c_uint64)]


def load(profile):
    """Puts this process under the profile. What this machine's libseccomp does not know is left out, as engines do."""
    lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    default = ACTIONS[profile["defaultAction"]] | profile["defaultErrnoRet"]
    context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(default)))
    assert context, "seccomp_init"
    for rule in profile["syscalls"]:
        action = ACTIONS[rule["action"]] | rule.get("errnoRet", 0)
        comparisons = []
        for arg in rule.get("args", []):
            assert arg["op"] == "SCMP_CMP_MASKED_EQ", arg
            comparisons.append(Comparison(arg["index"], MASKED_EQ, arg["value"], arg["valueTwo"]))
        array = (Comparison * len(comparisons))(*comparisons)
        for name in rule["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            assert number != -1, f"no system call is called {name}"
            if number >= 0:
                done = lib.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(comparisons), array)
                assert done == 0, f"{name}: {done}"
    # Without no-new-privileges only root may.
    assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
    assert lib.seccomp_load(context) == 0, "seccomp_load"


def under(profile, command):
    return subprocess.Popen(
        command, preexec_fn=lambda: load(profile), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serves(evergate, profile):
    """A demo under the profile answers calls, and drains."""
    port = free_port()
    demo = under(profile, [evergate, "demo", "--listen", f"127.0.0.1:{port}", "--admin", "off", "--cores", "0"])
    try:
        calls(f"ws://127.0.0.1:{port}/", evergate, [demo])
        demo.send_signal(signal.SIGUSR1)
        said = demo.communicate(timeout=30)[0]
        assert demo.returncode == 0, said
    finally:
        demo.kill()


def calls(url, evergate, others):
    """Calls until somebody answers; `others` are the processes that must live meanwhile."""
    end = time.monotonic() + 60
    while True:
        ended = subprocess.run([evergate, "call", "--url", url, "opensrf.math", "add", "20", "22"], capture_output=True, text=True)
        if ended.returncode == 0:
            assert ended.stdout.strip() == "42", ended.stdout
            return
        for process in others:
            assert process.poll() is None, f"{process.args} ended: {process.stdout.read()}"
        assert time.monotonic() < end, ended.stderr
        time.sleep(0.05)


def serves_composed(evergate, profile, compose):
    """What the compose file starts, as processes: its commands, accounts and variables, each service's name being this host."""
    redis, port = free_port(), free_port()
    names = {"redis:6379": f"127.0.0.1:{redis}", "/etc/redis/users.acl": os.path.join(PLACE, "users.acl")}
    for name, secret in compose["secrets"].items():
        names[f"/run/secrets/{name}"] = os.path.join(PLACE, secret["file"])

    def here(text):
        for name, place in names.items():
            text = text.replace(name, place)
        return text

    services = compose["services"]
    server, *options = map(here, services["redis"]["command"])
    server = os.environ.get("BUS_SERVER", server)
    environment = {name: here(value) for name, value in services["gateway"]["environment"].items()}
    environment |= {"EVERGATE_LISTEN": f"127.0.0.1:{port}", "EVERGATE_CORES": "0", "EVERGATE_CONTROL": "off", "EVERGATE_STATE_DIR": "off"}
    processes = []
    try:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen([server, *options, "--port", str(redis), "--bind", "127.0.0.1"], cwd="/", **pipes))
        until_listening(redis, processes[0])
        processes.append(under(profile, [evergate, *map(here, services["services"]["command"])]))
        os.environ.update(environment)
        processes.append(under(profile, [evergate, "serve"]))
        for name in environment:
            del os.environ[name]
        calls(f"ws://127.0.0.1:{port}/", evergate, processes)
        # The signal of STOPSIGNAL.
        processes[-1].send_signal(signal.SIGUSR1)
        said = processes[-1].communicate(timeout=30)[0]
        assert processes[-1].returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def until_listening(port, process):
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end, f"nobody listens at {port}"
            time.sleep(0.05)


def is_refused(evergate, profile):
    """Without the system calls of io_uring it says which profile is to blame. So the filter was in force above."""
    strict = dict(profile, syscalls=[rule for rule in profile["syscalls"] if "io_uring_setup" not in rule["names"]])
    demo = under(strict, [evergate, "demo", "--listen", "127.0.0.1:0", "--admin", "off", "--cores", "0"])
    said = demo.communicate(timeout=30)[0]
    assert demo.returncode == 1 and "seccomp" in said, said


def files_are_there(compose):
    services = compose["services"]
    assert set(services) == {"redis", "services", "gateway"}, services.keys()
    for service in services.values():
        for name in service.get("depends_on", {}):
            assert "healthcheck" in services[name], f"{name} is waited for, and has no health check"
        for option in service.get("security_opt", []):
            if option.startswith("seccomp="):
                assert os.path.exists(os.path.join(PLACE, option.split("=")[1])), option
        for volume in service.get("volumes", []):
            assert os.path.exists(os.path.join(PLACE, volume.split(":")[0])), volume
        for name in service.get("secrets", []):
            assert os.path.exists(os.path.join(PLACE, compose["secrets"][name]["file"])), name
        build = service.get("build", {})
        if "dockerfile" in build:
            # By its path from the context, which tuning/build-deb makes.
            assert os.path.exists(os.path.normpath(os.path.join(PLACE, build["context"], build["dockerfile"]))), build
    # Every variable of the recipe and of the compose file is an option.
    known = subprocess.run([sys.argv[1], "config"], capture_output=True, text=True).stdout
    with open(os.path.join(PLACE, "Containerfile")) as file:
        named = re.findall(r"EVERGATE_([A-Z_]+)=", file.read())
    named += [name.removeprefix("EVERGATE_") for name in services["gateway"]["environment"]]
    assert len(named) > 5, named
    for name in named:
        assert re.search(rf"^{name.lower()} = ", known, re.M), f"there is no option {name.lower()}"


if __name__ == "__main__":
    evergate = sys.argv[1]
    for name in [name for name in os.environ if name.startswith("EVERGATE_")]:
        del os.environ[name]
    with open(os.path.join(PLACE, "seccomp.json")) as file:
        profile = json.load(file)
    with open(os.path.join(PLACE, "compose.yaml")) as file:
        compose = yaml.safe_load(file)
    files_are_there(compose)
    serves(evergate, profile)
    serves_composed(evergate, profile, compose)
    is_refused(evergate, profile)
    print("tuning/container: passed")

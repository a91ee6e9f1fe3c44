"""The AWS CLI, loaded once: for each call a copy of this process runs it. Starting it takes most of a second, and the tests call it 300 times.

    warm_aws.py SOCKET        with the Python that has awscli; stand-ins/aws is the other end
"""
import json
import os
import signal
import socket
import sys

from awscli.clidriver import create_clidriver

driver = create_clidriver()
loader = driver.session.get_component("data_loader")
for service in ("s3", "ssm", "ec2", "sts", "resourcegroupstaggingapi"):
    for kind in ("service-2", "paginators-1", "waiters-2", "endpoint-rule-set-1"):
        try:
            loader.load_service_model(service, kind)
        except Exception:  # not every service has each
            pass


def serve(connection):
    message, descriptors, *_ = socket.recv_fds(connection, 1 << 20, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 20)
    call = json.loads(message)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["directory"])
    try:
        code = driver.main(call["arguments"])
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(f"{code}\n".encode())


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                serve(connection)
            finally:
                os._exit(0)
        connection.close()


main()

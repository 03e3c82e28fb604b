"""The attach-and-poll loop with the official SDK: sdk_loop.py HOST:PORT GROUP MILLISECONDS…

Attaches groups of ENIs, each with its own time from an accepted attach to InUse, and polls each ENI
once a second. A call that ENS throttles is repeated after a second. Prints how many seconds after
InUse each caller saw it, as JSON.
"""

import concurrent.futures
import json
import os
import sys
import time
import urllib.request

from alibabacloud_ens20171110 import models
from alibabacloud_ens20171110.client import Client
from alibabacloud_tea_openapi.models import Config

ADDRESS, GROUP, TIMES = sys.argv[1], int(sys.argv[2]), [int(text) / 1000 for text in sys.argv[3:]]
PAUSE = 1.0


def set_attach_time(seconds):
    """Of the attaches that follow."""
    body = json.dumps({"attach_time": f"{round(seconds * 1000)}ms"}).encode()
    request = urllib.request.Request(
        f"http://{ADDRESS}/_simulator/rules", body, {"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=60).close()


def unthrottled(call, request):
    """The answer, as often as it takes."""
    while True:
        try:
            return call(request).body
        except Exception as error:
            if not str(getattr(error, "code", "")).startswith("Throttling"):
                raise
            time.sleep(PAUSE)


def attach(client, group, number):
    """Attaches; the time at which ENS had accepted."""
    instance, eni = f"i-{group}-{number % 2}", f"eni-{group}-{number}"
    request = models.AttachNetworkInterfaceRequest(instance_id=instance, network_interface_id=eni)
    unthrottled(client.attach_network_interface, request)
    return eni, time.monotonic()


def poll(client, eni):
    """Polls until the ENI is in use."""
    while True:
        time.sleep(PAUSE)
        request = models.DescribeNetworkInterfacesRequest(network_interface_id=eni)
        body = unthrottled(client.describe_network_interfaces, request)
        if body.network_interface_sets.network_interface_set[0].status == "InUse":
            return time.monotonic()


def lag(client, eni, accepted, seconds):
    """How long after InUse the caller saw it."""
    return poll(client, eni) - accepted - seconds


def main():
    """Runs all groups."""
    client = Client(
        Config(
            endpoint=ADDRESS,
            protocol="http",
            region_id="cn-hangzhou",
            access_key_id=os.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"],
            access_key_secret=os.environ["ALIBABA_CLOUD_ACCESS_KEY_SECRET"],
        )
    )
    with concurrent.futures.ThreadPoolExecutor(GROUP * (len(TIMES) + 1)) as pool:
        lags = []
        for group, seconds in enumerate(TIMES):
            set_attach_time(seconds)
            accepted = list(pool.map(lambda number: attach(client, group, number), range(GROUP)))
            lags += [pool.submit(lag, client, eni, at, seconds) for eni, at in accepted]
        print(json.dumps([future.result() for future in lags]))


if __name__ == "__main__":
    main()

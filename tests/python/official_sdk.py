"""The official SDK, unchanged, against a running simulator: official_sdk.py HOST:PORT.

Its world is the default one; the key comes from the variables that the SDK itself reads.
"""

import json
import os
import sys
import time
import unittest
import urllib.error
import urllib.request

from alibabacloud_ens20171110 import models
from alibabacloud_ens20171110.client import Client
from alibabacloud_tea_openapi.models import Config

ADDRESS = sys.argv.pop(1)
KEY = os.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"]
SECRET = os.environ["ALIBABA_CLOUD_ACCESS_KEY_SECRET"]


def client(**changes):
    settings = dict(
        endpoint=ADDRESS,
        protocol="http",
        region_id="cn-hangzhou",
        access_key_id=KEY,
        access_key_secret=SECRET,
    )
    return Client(Config(**{**settings, **changes}))


def control(path, body):
    request = urllib.request.Request(
        f"http://{ADDRESS}/_simulator/{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=60).close()


def attach(instance, eni, by=None):
    request = models.AttachNetworkInterfaceRequest(instance_id=instance, network_interface_id=eni)
    return (by or client()).attach_network_interface(request)


def interfaces(**filters):
    body = (
        client()
        .describe_network_interfaces(models.DescribeNetworkInterfacesRequest(**filters))
        .body
    )
    return body, body.network_interface_sets.network_interface_set


def wait_for(eni, status):
    for _ in range(6000):
        (row,) = interfaces(network_interface_id=eni)[1]
        if row.status == status:
            return row
        time.sleep(0.01)
    raise AssertionError(f"{eni} is {row.status}, never {status}")


class OfficialSdk(unittest.TestCase):
    def refused(self, code, status, call, *arguments, **keywords):
        with self.assertRaises(Exception) as raised:
            call(*arguments, **keywords)
        error = raised.exception
        self.assertEqual(getattr(error, "code", None), code, repr(error))
        self.assertEqual(error.status_code, status)
        return error

    def test_attach_describe_detach(self):
        self.assertRegex(attach("i-stopped-1", "eni-0001").body.request_id, "^[0-9A-F-]{36}$")
        row = wait_for("eni-0001", "InUse")
        self.assertEqual((row.instance_id, row.type), ("i-stopped-1", "Secondary"))
        client().detach_network_interface(
            models.DetachNetworkInterfaceRequest(network_interface_id="eni-0001")
        )
        self.assertIsNone(wait_for("eni-0001", "Available").instance_id)

    def test_describe_by_ids_by_instance_and_by_page(self):
        ids = [f"eni-{n:04}" for n in range(1, 13)]
        body, rows = interfaces(network_interface_ids=ids, page_size="50")
        self.assertEqual((body.total_count, [row.network_interface_id for row in rows]), (12, ids))
        _, rows = interfaces(network_interface_ids=ids, page_size="5", page_number="3")
        self.assertEqual(len(rows), 2)
        body, rows = interfaces(instance_id="i-full", page_size="50")
        self.assertEqual((len(rows), [row.type for row in rows].count("Primary")), (11, 1))
        self.assertEqual(interfaces(network_interface_id="eni-nowhere")[1], [])

    def test_values_that_need_encoding_are_signed_and_sent_alike(self):
        for name in ["two words", "a+b", "tilde~star*", "ünïcode", "a&b=c", "100%"]:
            self.assertEqual(interfaces(network_interface_name=name)[1], [], name)

    def test_instances(self):
        request = models.DescribeInstancesRequest(
            instance_ids=json.dumps(["i-running", "i-stopped-2"])
        )
        rows = client().describe_instances(request).body.instances.instance
        self.assertEqual(
            {row.instance_id: row.status for row in rows},
            {"i-running": "Running", "i-stopped-2": "Stopped"},
        )
        self.assertEqual(len(rows[0].network_interfaces.network_interfaces), 1)
        self.assertTrue(rows[0].network_attributes.network_id)
        client().start_instance(models.StartInstanceRequest(instance_id="i-stopped-4"))
        error = self.refused(
            "InvalidOperation.InvalidEnsStatus", 400, attach, "i-stopped-4", "eni-0040"
        )
        self.assertTrue(error.data["RequestId"])

    def test_every_refusal_of_attach(self):
        for instance, eni, code in [
            (None, "eni-0010", "InvalidParameter.InstanceId"),
            ("i-stopped-1", None, "InvalidParameter.NetworkInterfaceId"),
            ("i-nowhere", "eni-0010", "InstanceNotFound"),
            ("i-forbidden", "eni-0010", "NoPermission"),
            ("i-stopped-1", "eni-nowhere", "InvalidEniId.NotFound"),
            ("i-stopped-1", "eni-service-managed", "InvalidParameter.EniServiceManaged"),
            ("i-stopped-1", "eni-primary-i-running", "InvalidOperation.InvalidEniType"),
            ("i-stopped-1", "eni-full-01", "InvalidOperation.InvalidEniStatus"),
            ("i-running", "eni-0010", "InvalidOperation.InvalidEnsStatus"),
            ("i-unsupported", "eni-0010", "InvalidOperation.InstanceNotSupport"),
            ("i-other-network", "eni-0010", "InvalidOperation.NetworkMismatch"),
            ("i-full", "eni-0010", "EniPerInstanceLimitExceeded"),
        ]:
            with self.subTest(code=code):
                self.refused(code, 400, attach, instance, eni)

    def test_faults(self):
        control("faults", {"eni": "eni-0020", "effect": {"kind": "mask"}})
        self.refused("ens.interface.error", 400, attach, "i-stopped-2", "eni-0020")
        wait_for("eni-0020", "InUse")
        control(
            "faults", {"eni": "eni-0021", "effect": {"kind": "throttle", "retry_after": "1500ms"}}
        )
        error = self.refused("Throttling.User", 400, attach, "i-stopped-2", "eni-0021")
        self.assertEqual(error.retry_after, 1500)
        control("faults", {"eni": "eni-0021", "effect": {"kind": "drop_after"}})
        with self.assertRaises(Exception) as raised:
            attach("i-stopped-2", "eni-0021")
        self.assertIn("reset", str(raised.exception).lower())
        wait_for("eni-0021", "InUse")

    def test_who_cannot_be_verified(self):
        wrong = client(access_key_secret="wrong")
        self.refused("SignatureDoesNotMatch", 400, attach, "i-stopped-1", "eni-0010", by=wrong)
        unknown = client(access_key_id="unknown")
        self.refused(
            "InvalidAccessKeyId.NotFound", 404, attach, "i-stopped-1", "eni-0010", by=unknown
        )
        temporary = client(security_token="token")
        self.refused(
            "InvalidSecurityToken.MismatchWithAccessKey",
            400,
            attach,
            "i-stopped-1",
            "eni-0010",
            by=temporary,
        )
        with self.assertRaises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(
                f"http://{ADDRESS}/?Action=DescribeInstances&Version=2017-11-10", timeout=60
            )
        self.assertEqual(json.load(raised.exception)["Code"], "IncompleteSignature")

    def test_temporary_credentials(self):
        sts = dict(id="STS.key", secret="sts-secret", token="CAIS/with+odd==chars")
        control("keys", [{"id": KEY, "secret": SECRET}, sts])
        temporary = client(
            access_key_id=sts["id"], access_key_secret=sts["secret"], security_token=sts["token"]
        )
        attach("i-stopped-3", "eni-0030", by=temporary)
        missing = client(access_key_id=sts["id"], access_key_secret=sts["secret"])
        self.refused("MissingSecurityToken", 400, attach, "i-stopped-3", "eni-0031", by=missing)
        control("keys", [{"id": KEY, "secret": SECRET}, {**sts, "state": "expired"}])
        self.refused(
            "InvalidSecurityToken.Expired", 400, attach, "i-stopped-3", "eni-0031", by=temporary
        )


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""An issuer of tokens in the cluster, whose keys are fetched by https, under an authority of its own."""

from __future__ import annotations

from typing import Any

from infra.certificate import issue

NAME = "issuer"
HOST = f"{NAME}.{NAME}.svc.cluster.local"
URL = f"https://{HOST}"
PORT = 8443

SERVE = f"""
import http.server, ssl

class Keys(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open("/issuer/keys", "rb").read())

server = http.server.ThreadingHTTPServer(("", {PORT}), Keys)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/issuer/certificate", "/issuer/key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def issuing(image: str, keys: str) -> tuple[str, dict[str, Any]]:
    """The authority that vouches for it, and its objects; `image` has Python."""
    certificate = issue([HOST])
    labels = {"app": NAME}
    files = {"certificate": certificate["certificate"], "key": certificate["key"], "keys": keys}
    container = {
        "name": NAME,
        "image": image,
        "command": ["python", "-c", SERVE],
        "volumeMounts": [{"name": "files", "mountPath": "/issuer", "readOnly": True}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT, "scheme": "HTTPS"}, "periodSeconds": 1},
    }
    objects: list[dict[str, Any]] = [
        {"kind": "Namespace", "metadata": {"name": NAME}},
        {"kind": "Secret", "metadata": {"name": NAME, "namespace": NAME}, "stringData": files},
        {
            "kind": "Pod",
            "metadata": {"name": NAME, "namespace": NAME, "labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [{"name": "files", "secret": {"secretName": NAME}}],
            },
        },
        {
            "kind": "Service",
            "metadata": {"name": NAME, "namespace": NAME},
            "spec": {"selector": labels, "ports": [{"port": 443, "targetPort": PORT}]},
        },
    ]
    items = [{"apiVersion": "v1", **each} for each in objects]
    return certificate["ca"], {"apiVersion": "v1", "kind": "List", "items": items}

"""Holds the pages that object stores and web servers send instead of audio."""

from archiver.demo.simulators.answer import Answer


def xml(status: int, code: str, message: str) -> Answer:
    """Returns an error in the words of S3."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(status, {"Content-Type": "application/xml"}, text.encode())


def html(status: int, title: str, text: str) -> Answer:
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body>{text}</body></html>"
    return Answer(status, {"Content-Type": "text/html; charset=utf-8"}, page.encode())


EXPIRED = xml(403, "AccessDenied", "Request has expired")
DENIED = xml(403, "SignatureDoesNotMatch", "The signature does not match.")
ONE_AUTH = xml(400, "InvalidArgument", "Only one auth mechanism allowed")
NO_SUCH_AUDIO = xml(404, "NoSuchKey", "The specified key does not exist.")
LOGIN = html(200, "Sign in", "<form method=post>Password <input type=password></form>")
NOT_FOUND = html(404, "404 Not Found", "<h1>Not Found</h1>")

"""submit-points-event as functions-framework is usually used: sync, one call a request."""

import os

import functions_framework
import jwt
from psycopg_pool import ConnectionPool

KEYS = jwt.PyJWKSet.from_json(os.environ["SUPABASE_JWKS"])
POOL = ConnectionPool(
    os.environ["DATABASE_URL"], min_size=1, max_size=10, kwargs={"autocommit": True}
)
QUERY = (
    "select public.submit_points_event(p_user_id => %s, p_event_type => %s, p_event_time => %s,"
    " p_nonce => %s)"
)


@functions_framework.http
def submit_points_event(request):
    if request.method != "POST":
        return {"error": "method not allowed"}, 405
    _, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        key = KEYS[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, algorithms=["ES256"], audience="authenticated")
    except (jwt.PyJWTError, KeyError):
        return {"error": "unauthorized"}, 401
    body = request.get_json()
    values = (claims["sub"], body["event_type"], body["event_time"], body["nonce"])
    with POOL.connection() as connection:
        answer = connection.execute(QUERY, values).fetchone()[0]
    return answer, 202

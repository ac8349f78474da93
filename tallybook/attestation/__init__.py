"""Device attestation: is this really our app, on a real device, sending this very request?

`app_attest` verifies Apple's App Attest and `play_integrity` judges what Google says of a Play
Integrity token; both raise `Rejected` with a reason and nothing else. Clocks, root certificates,
transports and policies are handed in, and nothing here can be switched off.
"""

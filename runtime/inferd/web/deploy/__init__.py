"""Deploying models over HTTP, as DeepInfra's API does.

`endpoints` are the routes over `inferd.deployments`, `schema` what they read and write, `convert`
leads from one to the other; `machine` says which GPUs there are, `period` reads points in time.
"""

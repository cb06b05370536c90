"""What ties whisperr to the servers and frameworks that fork, one module each.

Shipped as `whisperr.integrations`; every module here uses the public API alone and imports
absolutely.
"""

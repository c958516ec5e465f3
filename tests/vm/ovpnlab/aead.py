# SPDX-License-Identifier: GPL-2.0
"""AES-GCM and ChaCha20-Poly1305, by OpenSSL's libcrypto."""

from __future__ import annotations

import ctypes
import functools

TAG_SIZE = 16
_GET_TAG = 0x10
_SET_TAG = 0x11


class TagMismatch(ValueError):
    """What was to be opened is not authentic."""


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libcrypto.so.3")
    pointer = ctypes.c_void_p
    for name in ("aes_128_gcm", "aes_192_gcm", "aes_256_gcm", "chacha20_poly1305"):
        getattr(library, f"EVP_{name}").restype = pointer
    library.EVP_CIPHER_CTX_new.restype = pointer
    library.EVP_CIPHER_CTX_free.argtypes = [pointer]
    library.EVP_CIPHER_CTX_ctrl.argtypes = [pointer, ctypes.c_int, ctypes.c_int, pointer]
    text, number, numbers = ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int)
    library.EVP_CipherInit_ex.argtypes = [pointer, pointer, pointer, text, text, number]
    library.EVP_CipherUpdate.argtypes = [pointer, pointer, numbers, text, number]
    library.EVP_CipherFinal_ex.argtypes = [pointer, pointer, numbers]
    return library


def _cipher(key: bytes, chacha: bool) -> int:
    name = "chacha20_poly1305" if chacha else f"aes_{len(key) * 8}_gcm"
    return int(getattr(_library(), f"EVP_{name}")())


def _process(
    encrypt: bool,
    chacha: bool,
    key: bytes,
    nonce: bytes,
    associated: bytes,
    data: bytes,
    tag: bytes,
) -> tuple[bytes, bytes]:
    library = _library()
    context = library.EVP_CIPHER_CTX_new()
    try:
        length = ctypes.c_int()
        output = ctypes.create_string_buffer(len(data) + 16)
        tag_buffer = ctypes.create_string_buffer(tag, TAG_SIZE)
        direction = 1 if encrypt else 0
        good = library.EVP_CipherInit_ex(context, _cipher(key, chacha), None, key, nonce, direction)
        if not encrypt:
            good &= library.EVP_CIPHER_CTX_ctrl(context, _SET_TAG, TAG_SIZE, tag_buffer)
        good &= library.EVP_CipherUpdate(
            context, None, ctypes.byref(length), associated, len(associated)
        )
        good &= library.EVP_CipherUpdate(context, output, ctypes.byref(length), data, len(data))
        result = output.raw[: length.value]
        if good != 1:
            raise RuntimeError("libcrypto refused")
        if library.EVP_CipherFinal_ex(context, output, ctypes.byref(length)) != 1:
            raise TagMismatch("the tag does not match")
        if encrypt:
            library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_SIZE, tag_buffer)
        return result, tag_buffer.raw
    finally:
        library.EVP_CIPHER_CTX_free(context)


def seal(
    key: bytes, nonce: bytes, associated: bytes, data: bytes, chacha: bool = False
) -> tuple[bytes, bytes]:
    """Encrypt; returns ciphertext and tag."""
    return _process(True, chacha, key, nonce, associated, data, bytes(TAG_SIZE))


def open_(
    key: bytes, nonce: bytes, associated: bytes, data: bytes, tag: bytes, chacha: bool = False
) -> bytes:
    """Verify and decrypt; `TagMismatch` if it is not authentic."""
    return _process(False, chacha, key, nonce, associated, data, tag)[0]

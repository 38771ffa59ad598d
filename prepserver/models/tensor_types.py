"""Sizes of the tensor types of ggml, which GGUF files and ggml files share."""

__all__ = ["BLOCKS"]

BLOCKS = {
    0: (1, 4),  # float32
    1: (1, 2),  # float16
    2: (32, 18),  # q4_0
    3: (32, 20),  # q4_1
    6: (32, 22),  # q5_0
    7: (32, 24),  # q5_1
    8: (32, 34),  # q8_0
    10: (256, 84),  # q2_k
    11: (256, 110),  # q3_k
    12: (256, 144),  # q4_k
    13: (256, 176),  # q5_k
    14: (256, 210),  # q6_k
}
"""Numbers of weights and bytes in one block, for each supported ggml type (`type_traits` in
ggml)."""

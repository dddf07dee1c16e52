"""The descriptor pool of Rocinante's generated messages.

The etcd messages bear etcd's own names (`etcdserverpb.PutRequest`, …), and so do those of every other etcd client. In
protobuf's default pool two files with the same names clash when both are imported; in a pool of our own they do not.
"""

from __future__ import annotations

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()

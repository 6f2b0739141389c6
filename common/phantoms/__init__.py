# SPDX-License-Identifier: Apache-2.0
"""Small synthetic datasets in official layouts, so that everything runs with nothing downloaded.

They prove plumbing, never accuracy.
"""

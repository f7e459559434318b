"""The viewer: a read-only web application in which an officer looks around in checked bundles."""
